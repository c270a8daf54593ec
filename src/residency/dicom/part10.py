"""A data set as the bytes of DICOM's file format (PS3.10 section 7): equal data sets give equal bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from residency.dicom.uids import derived_uid

IMPLEMENTATION_CLASS_UID = derived_uid("implementation-class")
IMPLEMENTATION_VERSION_NAME = "RESIDENCY"


LARGEST_VALUE_BYTES = 2**32 - 2
"""Longest value of an element; the length is a 32-bit number, and its largest means undefined (PS3.5 7.1)."""


class Syntax(StrEnum):
    """Transfer syntaxes of what we write; all of them explicit, little endian and without loss (PS3.5 A.2, A.4.2)."""

    NATIVE = ExplicitVRLittleEndian
    RLE = RLELossless


@dataclass(frozen=True)
class EncodedInstance:
    """One instance of ours: its SOP Instance UID and its bytes in DICOM's file format."""

    uid: str
    data: bytes


def encode(
    dataset: Dataset,
    *,
    class_uid: str = IMPLEMENTATION_CLASS_UID,
    version_name: str = IMPLEMENTATION_VERSION_NAME,
    syntax: Syntax = Syntax.NATIVE,
) -> EncodedInstance:
    """The data set in Explicit VR Little Endian, its Pixel Data as they are: encapsulated where the syntax says so.

    The file meta group is written anew and names neither machine nor moment; class_uid and version_name are what it
    says of the implementation.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(class_uid)
    meta.ImplementationVersionName = version_name
    dataset.file_meta = meta
    stream = BytesIO()
    dcmwrite(stream, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return EncodedInstance(str(dataset.SOPInstanceUID), stream.getvalue())
