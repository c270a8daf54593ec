"""What of a body may be drawn: of a head only axial sections. All others show the profile of a face, and so may a
picture that has no place in the patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from residency.codes import Code, Kind, relate
from residency.findings import Mask
from residency.geometry import reorientation
from residency.prepare.crop import crop_to
from residency.prepare.orient import Orient
from residency.volume import Space, Volume

T = TypeVar("T", bound=np.generic)

ROUND_STRUCTURES_MM = 20.0
"""Margin of pictures of a cascade: its structures are small, and a face lies farther off."""

_AXIAL = "SPL"
_NEAR_A_FACE = (
    Code(scheme="SCT", value="69536005", meaning="Head"),
    Code(scheme="SCT", value="45048000", meaning="Neck"),
    Code(scheme="SCT", value="122494005", meaning="Cervical spine"),
)
"""A neck or a cervical spine is hardly ever imaged without the lower half of the face."""


@dataclass(frozen=True, eq=False)
class View:
    """A volume as it may be drawn.

    axes, flips  how its axes were exchanged and reversed; () where it is drawn as it was acquired
    part         (first row, behind the last, first column, behind the last) of each slice; None: the whole slice
    """

    volume: Volume
    axes: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()
    part: tuple[int, int, int, int] | None = None

    @property
    def turned(self) -> bool:
        """True where slices are axial sections instead of those that were acquired."""
        return bool(self.axes)

    def of(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """An array on the grid of the volume as it was, on that of the view; nothing is interpolated."""
        turned = np.flip(array.transpose(self.axes), self.flips) if self.turned else array
        if self.part is None:
            return turned
        top, bottom, left, right = self.part
        return turned[:, top:bottom, left:right]

    def close_up(self, masks: Iterable[Mask], margin_mm: float) -> View:
        """All slices, cut to the rows and columns that hold the masks, and a margin; the view itself where none does.

        masks  on the grid of the volume as it was
        """
        held = [self.of(mask).any(axis=0) for mask in masks]
        if not any(one.any() for one in held):
            return self
        flat = np.logical_or.reduce(held)
        limits = []
        for axis in (0, 1):
            hit = np.flatnonzero(flat.any(axis=1 - axis))
            margin = int(np.ceil(margin_mm / self.volume.grid.spacing_mm[1 + axis]))
            limits.append((max(0, int(hit[0]) - margin), min(flat.shape[axis], int(hit[-1]) + 1 + margin)))
        (top, bottom), (left, right) = limits
        part = crop_to(self.volume, (0, top, left), (self.volume.grid.shape[0], bottom, right))
        return replace(self, volume=part, part=(top, bottom, left, right))


def view_of(volume: Volume, regions: Sequence[Code]) -> View | None:
    """How the volume may be drawn, None where it may not be: a radiograph or photograph that may show a face.

    regions  what it shows, as far as is known; () counts as a head
    """
    if regions and not any(map(_near_a_face, regions)):
        return View(volume)
    if volume.grid.space is not Space.PATIENT:
        return None
    if volume.grid.orientation[0] in "SI":
        return View(volume)
    axes, flips = reorientation(volume.grid.affine, _AXIAL)
    reversed_axes = tuple(axis for axis, flipped in enumerate(flips) if flipped)
    return View(Orient(letters=_AXIAL).apply(volume), tuple(axes), reversed_axes)


def _near_a_face(region: Code) -> bool:
    return any(relate(near, region).kind is not Kind.DISJOINT for near in _NEAR_A_FACE)
