"""One picture in many encodings: instances that differ in nothing but how their pixels are written.

Streams are made by encoders that are not the decoders under test (DCMTK, OpenJPEG, CharLS) or written here by the
letter of the standard (RLE). Needs the command line tools of DCMTK where `with_dcmtk` is used.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from residency.dicom.uids import derived_uid
from residency.testing.phantoms import CT_IMAGE

Values = npt.NDArray[np.integer]


def texture(rows: int, columns: int, most: int = 4095) -> npt.NDArray[np.int64]:
    """An asymmetric picture of whole numbers from 0 to `most`, smooth and rough at once, equal on every machine."""
    row, column = np.mgrid[:rows, :columns].astype(np.int64)
    rough = (31 * column * column + 17 * row * row + 7 * row * column) % 701
    values = rough + (3394 * (2 * column + 3 * row)) // (2 * columns + 3 * rows)
    found: npt.NDArray[np.int64] = values * most // 4095
    return found


def instance(values: Values, *, bits_stored: int, name: str = "picture", **attributes: object) -> Dataset:
    """A CT image as a data set, Explicit VR Little Endian, that holds the given stored values.

    values       (rows, columns), (frames, rows, columns) or, for colour, (frames, rows, columns, 3); their dtype says
                 Bits Allocated and Pixel Representation
    attributes   by keyword, last; None takes one out
    """
    frames = values[None] if values.ndim == 2 else values
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE, derived_uid("encoding", name)
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Phantom^Test", "PHANTOM"
    dataset.StudyInstanceUID = derived_uid("encoding", "study", name)
    dataset.SeriesInstanceUID = derived_uid("encoding", "series", name)
    dataset.FrameOfReferenceUID = derived_uid("encoding", "frame", name)
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], "2"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.SamplesPerPixel = 1 if values.ndim < 4 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim < 4 else "RGB"
    if values.ndim == 4:
        dataset.PlanarConfiguration = 0
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.BitsAllocated = values.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = _even(np.ascontiguousarray(frames).astype(frames.dtype.newbyteorder("<")).tobytes())
    dataset["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set in DICOM's file format."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.file_meta = meta
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def compressed(
    dataset: Dataset, syntax: str, streams: Sequence[bytes], *, fragments: int = 1, table: bool = True
) -> bytes:
    """The instance with the given streams, one a frame, as its Pixel Data. The data set is changed.

    fragments  into how many each stream is cut
    table      with a Basic Offset Table
    """
    dataset.PixelData = encapsulate(list(streams), fragments_per_frame=fragments, has_bot=table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return written(dataset, syntax)


def with_dcmtk(data: bytes, folder: Path, *command: str) -> bytes:
    """The instance as a tool of DCMTK writes it, for example ("dcmcjpeg", "+e1")."""
    source, target = folder / "source.dcm", folder / "target.dcm"
    source.write_bytes(data)
    done = subprocess.run([*command, str(source), str(target)], capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
    return target.read_bytes()


def rle_stream(words: npt.NDArray[np.unsignedinteger]) -> bytes:
    """One grey frame by DICOM PS3.5 annex G: a segment a byte, most significant first, rows packed apart."""
    width = words.dtype.itemsize
    planes = words.astype(words.dtype.newbyteorder("<")).view(np.uint8).reshape(*words.shape, width)
    segments = [b"".join(_packed(row.tobytes()) for row in planes[:, :, k]) for k in reversed(range(width))]
    segments = [_even(segment) for segment in segments]
    offsets = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    header = np.array([width, *offsets, *[0] * (15 - width)], "<u4")
    return header.tobytes() + b"".join(segments)


def _packed(row: bytes) -> bytes:
    """Runs of equal bytes as replicate runs, all others one by one as literal runs."""
    found, at = bytearray(), 0
    while at < len(row):
        run = 1
        while at + run < len(row) and run < 128 and row[at + run] == row[at]:
            run += 1
        found += bytes([257 - run, row[at]]) if run > 1 else bytes([0, row[at]])
        at += run
    return bytes(found)


def _even(data: bytes) -> bytes:
    return data + b"\x00" * (len(data) % 2)
