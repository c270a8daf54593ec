"""A DICOM study from the MNI152 template: real anatomy of no single person, for the demonstration and golden cases.

The template is the T1-weighted average of 152 adults, ICBM 2009a nonlinear symmetric, skull-stripped, 1 mm; the
package `nilearn` carries it (extra `demo`). Fonov et al., NeuroImage 54 (2011) 313. (C) 1993-2009 Louis Collins,
McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University: free to use, copy, change and
distribute with this notice, without warranty.

An average has blurred edges and no noise: it shows that the walk works, not how well a network does on patients.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom

from residency.archive import Instance
from residency.dicom.uids import derived_uid
from residency.errors import DependencyError
from residency.files.nifti import read_nifti
from residency.labels import Side
from residency.prepare.crop import crop_to
from residency.prepare.orient import Orient
from residency.testing.phantoms import mr_series
from residency.volume import Grid, Volume

_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
FRAME_OF_REFERENCE = derived_uid("template", "mni-icbm152-2009a-symmetric")

NOTICE = """\
The golden case and the demonstration study are parts of the ICBM 2009a nonlinear symmetric T1 template (MNI152).

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.

VS Fonov, AC Evans, K Botteron, CR Almli, RC McKinstry, DL Collins and BDCG, Unbiased average age-appropriate atlases
for pediatric studies, NeuroImage 54(1):313-327, 2011.
VS Fonov, AC Evans, RC McKinstry, CR Almli and DL Collins, Unbiased nonlinear average age-appropriate brain templates
from birth to adulthood, NeuroImage 47:S102, 2009.
"""
"""Must travel with every copy of the template or of a part of it."""

CROP_MM = (36.0, 52.0, 36.0)
"""Extent of a hippocampus crop along (slice, row, column): the median of Task04 of the Medical Segmentation Decathlon
is 36 x 50 x 35 voxels of 1 mm."""
CROP_CENTRE_MM = (24.5, 21.5, -11.5)
"""Centre of the crop of the left side, LPS mm; the right side is its mirror image. Where the crops of that data set, on
average, resemble the template most (correlation 0.69)."""

_DERIVATION = "Average of 152 adults (MNI ICBM152 2009a, nonlinear symmetric); brain extracted"
STUDY = {
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
"""Attributes of every instance of such a study. The template came out of many scanners: what one would say of itself is
left empty."""


def template() -> Volume:
    """The whole template, values 0 to 255, 189 slices of 233 x 197 voxels of 1 mm, axes "SPL".

    Raises DependencyError where nilearn is not installed. Only its file is read; the package is never imported.
    """
    found = find_spec("nilearn")
    file = Path(found.origin).parent / _FILE if found is not None and found.origin else None
    if file is None or not file.is_file():
        raise DependencyError(
            "the MNI152 template comes with nilearn; in the checkout of Residency: pip install '.[demo]'"
        )
    read = Orient(letters="SPL").apply(read_nifti(file.read_bytes()))
    grid = Grid(read.grid.shape, read.grid.affine, FRAME_OF_REFERENCE)
    return Volume(np.rint(read.array).astype(np.float32), grid)


def hippocampus_crop(side: Side, whole: Volume | None = None) -> Volume:
    """The region round one hippocampus, 36 x 52 x 36 voxels of 1 mm, axes "SPL", at its true place in the template."""
    whole = whole or template()
    left, posterior, superior = CROP_CENTRE_MM
    centre = (left if side is Side.LEFT else -left, posterior, superior)
    lowest = whole.grid.to_index(centre) - (np.array(CROP_MM) - 1) / 2
    start = [round(float(n)) for n in lowest]
    return crop_to(whole, start, [a + int(n) for a, n in zip(start, CROP_MM, strict=True)])


def template_study(side: Side) -> list[Instance]:
    """The study of the demonstration: the whole brain, a hippocampus crop of one side, and a localiser.

    The crop says of itself what a `HippoCrop` series says: a description, the type DERIVED\\SECONDARY\\AXIAL, and
    neither body part nor side. Equal calls give equal bytes.
    """
    whole = template()
    made = [
        *mr_series(
            whole,
            study="mni152",
            series="whole",
            **STUDY,
            ImageType=["DERIVED", "SECONDARY", "OTHER"],
            SeriesNumber="2",
            SeriesDescription="T1 template, skull-stripped",
            DerivationDescription=_DERIVATION,
        ),
        *mr_series(
            hippocampus_crop(side, whole),
            study="mni152",
            series="crop",
            **STUDY,
            ImageType=["DERIVED", "SECONDARY", "AXIAL"],
            SeriesNumber="",
            SeriesDescription="HippoCrop",
            DerivationDescription=_DERIVATION + "; cropped",
            BodyPartExamined=None,
            Laterality="",
        ),
        *_localiser(whole),
    ]
    return as_instances(made)


def _localiser(whole: Volume) -> Iterator[bytes]:
    """Three crossing planes of 2 mm, each filling 128 x 128 pixels."""
    series = derived_uid("template", "localiser")
    for number, axes in enumerate(("SPL", "PIL", "LIP"), start=1):
        yield from mr_series(
            _middle_plane(whole, axes),
            study="mni152",
            series=f"localiser {number}",
            **STUDY,
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


def as_instances(files: Iterable[bytes]) -> list[Instance]:
    """DICOM files with their UIDs, as an archive takes them."""
    return [Instance(_uid_of(data), data) for data in files]


def _uid_of(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
