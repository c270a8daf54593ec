"""The MNI152 T1 template that the nilearn package carries, and a hippocampus crop of it: anatomy that is nobody's.

It is a non-linear average of 152 brains (ICBM 2009a, symmetric; Fonov et al., NeuroImage 54:313, 2011; Fonov et al.,
NeuroImage 47:S102, 2009), 1 mm, already stripped of the skull. `NOTICE` must travel with every copy of it or of a part.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from residency.errors import DependencyError
from residency.files.nifti import read_nifti
from residency.labels import Side
from residency.prepare import prepare
from residency.recipe import recipe
from residency.volume import Grid, Volume

_FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"

NOTICE = """\
The golden case and the demonstration study are parts of the ICBM 2009a nonlinear symmetric T1 template (MNI152).

Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
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

CROP_MM = (36.0, 52.0, 36.0)
"""Extent of a crop along left-right, posterior-anterior, inferior-superior: the middle of the training crops' sizes."""

_CENTRE_LPS = {Side.LEFT: (26.5, 20.5, -13.5), Side.RIGHT: (-26.5, 20.5, -13.5)}
"""Middle of the hippocampus in MNI space, LPS mm."""


def template_file() -> Path:
    """Where the installed nilearn package keeps the template; nilearn itself is not imported.

    Raises DependencyError.
    """
    package = importlib.util.find_spec("nilearn")
    if package is None or package.origin is None:
        raise DependencyError("the MNI152 template comes with nilearn: pip install 'residency[demo]'")
    file = Path(package.origin).parent / "datasets" / "data" / _FILE
    if not file.is_file():
        raise DependencyError(f"the installed nilearn does not carry {_FILE}: pip install 'residency[demo]'")
    return file


def template() -> Volume:
    """The whole template, values 0..255, axes (slice to superior, row to posterior, column to left)."""
    return prepare(read_nifti(template_file().read_bytes()), recipe(("orient", {"letters": "SPL"}))).volume


def hippocampus_crop(whole: Volume, side: Side) -> Volume:
    """The region round one hippocampus, cut from the template as the training crops are cut: about 36 x 52 x 36 mm."""
    centre = np.array(_CENTRE_LPS[side])
    half = np.array(CROP_MM) / 2
    corners = whole.grid.to_index(np.stack([centre - half, centre + half]))
    low = np.ceil(corners.min(axis=0)).astype(int)
    high = np.floor(corners.max(axis=0)).astype(int) + 1
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    array = np.ascontiguousarray(whole.array[part])
    affine = whole.grid.affine.copy()
    affine[:3, 3] = whole.grid.to_lps(low)
    return Volume(array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine, whole.grid.frame_of_reference))
