"""The study of the demonstration: DICOM series of the MNI152 template, real anatomy of no single person.

An average of 152 brains has blurred edges and no noise: it shows that the walk works, not how well a network does on
patients.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom

from residency.archive import Instance
from residency.dicom.uids import derived_uid
from residency.labels import Side
from residency.prepare.orient import Orient
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop, template
from residency.volume import Grid, Volume

FRAME_OF_REFERENCE = derived_uid("template", "mni-icbm152-2009a-symmetric")

_DERIVATION = "Average of 152 adults (MNI ICBM152 2009a, nonlinear symmetric); brain extracted"
_STUDY = {
    "PatientName": "Template^MNI152",
    "PatientID": "MNI152-2009A",
    "PatientSex": "",
    "StudyDescription": "MNI152 template",
    "StudyDate": "20090101",
    "SeriesDate": "20090101",
    "ContentDate": "20090101",
    "StudyTime": "000000",
    "SeriesTime": "000000",
    "ContentTime": "000000",
    "Manufacturer": "",
    "ManufacturerModelName": None,
    "DeviceSerialNumber": None,
    "SoftwareVersions": None,
    "ScanningSequence": "RM",
    "RepetitionTime": "",
    "EchoTime": "",
    "InversionTime": None,
    "EchoTrainLength": "",
    "FlipAngle": None,
    "MagneticFieldStrength": None,
}
"""Attributes of every instance. The template came out of many scanners: what one would say of itself is left empty."""


def template_study(side: Side) -> list[Instance]:
    """The study of the demonstration: the whole brain, a hippocampus crop of one side, and a localiser.

    The crop says of itself what a `HippoCrop` series says: a description, the type DERIVED\\SECONDARY\\AXIAL, and
    neither body part nor side. Equal calls give equal bytes.
    """
    found = template()
    whole = Volume(np.rint(found.array), replace(found.grid, frame_of_reference=FRAME_OF_REFERENCE))
    made = [
        *mr_series(
            whole,
            study="mni152",
            series="whole",
            **_STUDY,
            ImageType=["DERIVED", "SECONDARY", "OTHER"],
            SeriesNumber="2",
            SeriesDescription="T1 template, skull-stripped",
            DerivationDescription=_DERIVATION,
        ),
        *mr_series(
            hippocampus_crop(whole, side),
            study="mni152",
            series="crop",
            **_STUDY,
            ImageType=["DERIVED", "SECONDARY", "AXIAL"],
            SeriesNumber="",
            SeriesDescription="HippoCrop",
            DerivationDescription=_DERIVATION + "; cropped",
            BodyPartExamined=None,
            Laterality="",
        ),
        *_localiser(whole),
    ]
    return [Instance(_uid_of(data), data) for data in made]


def _localiser(whole: Volume) -> Iterator[bytes]:
    """Three crossing planes of 2 mm, each filling 128 x 128 pixels."""
    series = derived_uid("template", "localiser")
    for number, axes in enumerate(("SPL", "PIL", "LIP"), start=1):
        yield from mr_series(
            _middle_plane(whole, axes),
            study="mni152",
            series=f"localiser {number}",
            **_STUDY,
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            SeriesInstanceUID=series,
            SeriesNumber="1",
            SeriesDescription="Localiser",
            InstanceNumber=str(number),
        )


def _middle_plane(whole: Volume, axes: str) -> Volume:
    """Every other voxel of the middle plane along the first axis, padded with zeros to 128 x 128."""
    turned = Orient(letters=axes).apply(whole)
    middle = turned.grid.shape[0] // 2
    thin = turned.array[middle : middle + 1, ::2, ::2]
    before = [(128 - n) // 2 for n in thin.shape[1:]]
    array = np.zeros((1, 128, 128), np.float32)
    array[:, before[0] : before[0] + thin.shape[1], before[1] : before[1] + thin.shape[2]] = thin
    affine = turned.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = turned.grid.to_lps((middle, -2 * before[0], -2 * before[1]))
    return Volume(array, Grid((1, 128, 128), affine, FRAME_OF_REFERENCE))


def _uid_of(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
