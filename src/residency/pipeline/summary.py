"""The pictures beside a result: its findings on the slices of its source, drawn as pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from residency.card import Input
from residency.codes import Code, part_of
from residency.dicom.capture import patient_orientation
from residency.dicom.series import SourceSeries
from residency.files.picture import display_range
from residency.files.summary import Summary, summary_pages
from residency.findings import Findings, Picture
from residency.geometry import reorientation
from residency.prepare.orient import Orient
from residency.volume import Space, Volume

T = TypeVar("T", bound=np.generic)

HOUNSFIELD = "[hnsf'U]"
SOFT_TISSUE = (-160.0, 240.0)
"""Shown black and white of a CT whose card names no window, in HU: the usual abdomen window, centre 40, width 400."""

_HEAD = Code(scheme="SCT", value="69536005", meaning="Head")
_AXIAL = "SPL"
_MOVES = frozenset({"orient", "crop", "pad", "resample", "resize"})
"""Steps of a recipe that leave the unit of the values alone."""


def summary_of(findings: Findings, volume: Volume, needs: Input, source: SourceSeries) -> tuple[Picture, ...]:
    """The pages of a result.

    volume  of the source, on whose grid the findings lie
    needs   the input of the model that the source was read for

    Slices are shown as acquired; of a head that was not acquired in axial slices, axial sections are shown: its other
    sections show the profile of a face.
    """
    limits = display_limits(volume, needs)
    if not (_shows_head(needs) and volume.grid.space is Space.PATIENT) or volume.grid.orientation[0] in "SI":
        return summary_pages(Summary(findings, volume, limits, patient_orientation(source)))
    turned, image = _axial(findings, volume)
    summary = Summary(turned, image, limits, ("L", "P"), section="axial section")
    return tuple(replace(page, slices=()) for page in summary_pages(summary))


def display_limits(volume: Volume, needs: Input) -> tuple[float, float]:
    """Values shown black and white: what the network sees, where its recipe says so in the unit of the image; for
    other CT soft tissue, else from the values themselves.
    """
    for step in needs.recipe.steps:
        if step.name == "window":
            return _window(step.parameters)
        if step.name == "clip" and isinstance(values := step.parameters.get("values"), (tuple, list)):
            return float(values[0]), float(values[1])
        if step.name not in _MOVES:
            break
    return SOFT_TISSUE if volume.unit == HOUNSFIELD else display_range(volume.array)


def _window(parameters: Mapping[str, object]) -> tuple[float, float]:
    centre, width = float(str(parameters["centre"])), float(str(parameters["width"]))
    return centre - width / 2, centre + width / 2


def _shows_head(needs: Input) -> bool:
    return any(region == _HEAD or part_of(region, _HEAD) for region in needs.regions)


def _axial(findings: Findings, volume: Volume) -> tuple[Findings, Volume]:
    """The same voxels in the order of axial sections; nothing is interpolated."""
    axes, flips = reorientation(volume.grid.affine, _AXIAL)
    reversed_axes = tuple(axis for axis, flipped in enumerate(flips) if flipped)

    def turned(array: npt.NDArray[T]) -> npt.NDArray[T]:
        return np.flip(array.transpose(axes), reversed_axes)

    image = Orient(letters=_AXIAL).apply(volume)
    return (
        replace(
            findings,
            grid=image.grid,
            segments=tuple(replace(one, mask=turned(one.mask)) for one in findings.segments),
            maps=tuple(replace(one, array=turned(one.array)) for one in findings.maps),
        ),
        image,
    )
