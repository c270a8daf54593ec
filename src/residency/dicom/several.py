"""Series that hold more than one volume: which attribute tells them apart (DICOM PS3.3 C.8.3, C.8.13, C.7.6.16).

A series is read as one volume or not at all. Where its images fall into regular stacks by one attribute, the refusal
names it, so that people know what to ask of the scanner or the archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from residency.dicom.dataset import text
from residency.dicom.stack import Placement, directions, stack
from residency.errors import GeometryError

_PHASES = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoNumbers",
    "DiffusionBValue",
    "ComplexImageComponent",
    "ImageType",
)
"""What all slices of one volume share: another time, echo, diffusion weighting or kind of picture is another volume,
even where positions alone would let them pass for one."""

_CLOCKS = ("AcquisitionTime", "ContentTime")
"""Differ from slice to slice in any series; they tell volumes apart where nothing else does."""

TRAITS = (
    *_PHASES,
    "EchoTime",
    "InversionTime",
    "TemporalPositionTimeOffset",
    "DiffusionGradientOrientation",
    "NominalPercentageOfCardiacPhase",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfRespiratoryPhase",
    "TriggerTime",
    "FrameReferenceTime",
    "StackID",
    "AcquisitionNumber",
    "ConvolutionKernel",
    "KVP",
    "ContrastBolusAgent",
    *_CLOCKS,
)
"""Attributes that tell the volumes of one series apart, the most telling first."""

_PLACES = ("ImageOrientationPatient", "FrameOfReferenceUID", "Rows", "Columns", "PixelSpacing")

_SHOWN = 4

Traits = dict[str, str]
Image = tuple[Placement, Traits]


def traits_of(dataset: Dataset) -> Traits:
    """Values of the attributes that tell volumes apart; "" where they are absent."""
    return {keyword: text(dataset, keyword) for keyword in TRAITS}


def check_one_volume(images: Sequence[Image]) -> None:
    """Raises GeometryError where images that lie on one grid say themselves that they are not of one volume."""
    for keyword in _PHASES:
        groups = _grouped(images, (keyword,))
        if len(groups) > 1:
            raise GeometryError(
                f"the images lie on one grid, but differ in what one volume shares, {_listed(groups, (keyword,))}. "
                "Send each kind as a series of its own"
            )


def several(images: Sequence[Image]) -> str | None:
    """Why images that are no regular stack are several of them, where one attribute, or all that differ, tell so."""
    placed = [(placement, {**_place(placement), **traits}) for placement, traits in images]
    differing = [keyword for keyword in (*_PLACES, *TRAITS) if len(_grouped(placed, (keyword,))) > 1]
    together = tuple(keyword for keyword in differing if keyword not in _CLOCKS)
    for keywords in (*((keyword,) for keyword in differing), together):
        groups = _grouped(placed, keywords)
        stacks = len(groups) > 1 and all(len(group) > 1 and _is_stack(group) for group in groups.values())
        if stacks and (keywords[0] in _PLACES or _overlap(groups)):
            return (
                f"the series holds {len(groups)} volumes, told apart by {_listed(groups, keywords)}. Send each as a "
                "series of its own, or the wanted one alone"
            )
    return None


Groups = dict[tuple[str, ...], list[Placement]]


def _grouped(images: Sequence[Image], keywords: tuple[str, ...]) -> Groups:
    """Images by their values, in the order of the values; numbers by their size."""
    groups: Groups = {}
    for placement, traits in images:
        groups.setdefault(tuple(traits[keyword] for keyword in keywords), []).append(placement)
    return dict(sorted(groups.items(), key=lambda group: tuple(map(_by_size, group[0]))))


def _by_size(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _listed(groups: Groups, keywords: tuple[str, ...]) -> str:
    """Names of the attributes, and for each group its values, size and first image."""
    names = ", ".join(dictionary_description(keyword) for keyword in keywords)
    shown = [
        f"{', '.join(value or 'none' for value in values)} ({len(group)} images, such as instance "
        f"{min(placement.uid for placement in group)})"
        for values, group in list(groups.items())[:_SHOWN]
    ]
    more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return f"{names}: {'; '.join(shown)}{more}"


def _place(placement: Placement) -> Traits:
    """What the place of an image says, rounded so that two spellings are one."""
    cosines = "\\".join(f"{v + 0.0:.3g}" for v in placement.orientation or ())
    spacing = "\\".join(f"{v:.4g}" for v in placement.spacing_mm or ())
    values = (cosines, placement.frame_of_reference or "", str(placement.rows), str(placement.columns), spacing)
    return dict(zip(_PLACES, values, strict=True))


def _overlap(groups: Groups) -> bool:
    """Whether stacks of one orientation reach into each other; those that do not are one volume with a gap."""
    row, column = directions(next(iter(groups.values()))[0])
    normal = np.cross(row, column)
    extents = []
    for group in groups.values():
        along = [float(np.dot(normal, placement.position)) for placement in group if placement.position is not None]
        extents.append((min(along), max(along)))
    return any(next_low <= high for (_, high), (next_low, _) in pairwise(sorted(extents)))


def _is_stack(group: Sequence[Placement]) -> bool:
    try:
        stack(group)
    except GeometryError:
        return False
    return True
