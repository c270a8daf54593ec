"""What a network found, on a grid in the patient: segments, measurements, classes, maps, and why this network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.codes import Code
from residency.errors import GeometryError
from residency.labels import Side
from residency.volume import Grid

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment on the source grid; segments may overlap.

    number  1, 2, ... unique within the findings
    mask    bool, (slices, rows, columns) of the grid
    side    proven side, or None: unknown
    """

    number: int
    label: str
    category: Code
    type: Code
    mask: Mask
    modifiers: tuple[Code, ...] = ()
    region: Code | None = None
    side: Side | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Measurement:
    """A number with its quantity and UCUM unit, about one segment (by number) or, with None, about the whole series."""

    quantity: Code
    value: float
    unit: Code
    segment: int | None = None


@dataclass(frozen=True)
class Structure:
    """What is measured of a structure as a whole, whatever segments it is made of.

    side        proven side; None: unknown, or both
    both_sides  the measurements compare the left and the right one
    """

    label: str
    category: Code
    type: Code
    measurements: tuple[Measurement, ...]
    region: Code | None = None
    side: Side | None = None
    both_sides: bool = False


@dataclass(frozen=True)
class ClassScore:
    """Probability of one class of a classification.

    label   the class by the card's name for it; "" where it has none but the code's meaning
    found   what the card's decision rule says of it; None where it says nothing
    region  where in the body, as the card says it
    side    proven side of the images, or None: unknown
    """

    code: Code
    probability: float
    label: str = ""
    found: bool | None = None
    category: Code | None = None
    region: Code | None = None
    side: Side | None = None


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A map of float32 values on the grid, such as a probability or an attention map.

    number          1, 2, ... unique among the maps of the findings
    label           what a list of maps shows
    array           float32, (slices, rows, columns) of the grid
    category, type  what the values are about, with modifiers, region, side and colour as a segment has them; None
                    where they are about nothing in particular
    fractional      the values are probabilities, 0 to 1, that a voxel belongs to what is coded by category and type,
                    and are stored as such
    """

    quantity: Code
    unit: Code
    array: npt.NDArray[np.float32]
    number: int = 1
    label: str = ""
    category: Code | None = None
    type: Code | None = None
    modifiers: tuple[Code, ...] = ()
    region: Code | None = None
    side: Side | None = None
    colour: tuple[int, int, int] | None = None
    fractional: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for probabilities of nothing, or outside 0 to 1."""
        if not self.fractional:
            return
        if self.category is None or self.type is None:
            raise ValueError(f"map '{self.label}' holds probabilities, but has no category and type code")
        if not (self.array.min(initial=0) >= 0 and self.array.max(initial=0) <= 1):
            raise ValueError(f"map '{self.label}' holds values outside 0 to 1: they are no probabilities")


@dataclass(frozen=True)
class ModelReference:
    """Which network made the findings, as every result names it.

    before  the network that found the crops in which this one looked; None where it was shown the whole series
    """

    family: str
    name: str
    version: str
    digest: str
    publisher: str
    manifest_uid: str
    manifest_sop_class: str
    study_uid: str
    series_uid: str
    engine: str
    precision: str
    notice: str
    approval: str
    """How far the site trusts it, in words: "approved by ..." or "not approved at this site: research use"."""
    threshold: str
    """The decision rule in words."""
    before: ModelReference | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """One page that shows findings to people.

    pixels       uint8, (rows, columns, 3), sRGB
    title        what it shows, in words
    slices       of the grid of the source that are on it, from 0; () for a page of text, or of sections across slices
    orientation  where columns and rows of the slices increase to, as DICOM's Patient Orientation says it ("L", "P");
                 None where it is unknown, or nothing is on the page that has one
    """

    pixels: npt.NDArray[np.uint8]
    title: str
    slices: tuple[int, ...] = ()
    orientation: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything one run found on one series.

    reasons     the gates that the chosen card passed, one line each, with attribute and value
    structures  what is measured of structures as a whole
    before      of a cascade: what the network found that was shown the whole series, on the same grid; numbers of
                segments differ from those here
    """

    grid: Grid
    model: ModelReference
    segments: tuple[Segment, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    classes: tuple[ClassScore, ...] = ()
    maps: tuple[ScoreMap, ...] = ()
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    structures: tuple[Structure, ...] = ()
    before: Findings | None = None

    def __post_init__(self) -> None:
        for segment in self.segments:
            if segment.mask.shape != self.grid.shape:
                raise GeometryError(f"segment '{segment.label}' does not lie on the grid of the source")
        if self.before is not None and not self.before.grid.matches(self.grid):
            raise GeometryError("the findings of the step before do not lie on the grid of the source")
        numbers = [s.number for s in (*self.segments, *(self.before.segments if self.before else ()))]
        if len(set(numbers)) != len(numbers):
            raise GeometryError(f"two segments share a number: {numbers}")
        for found in self.maps:
            if found.array.shape != self.grid.shape:
                raise GeometryError(f"map '{found.label}' does not lie on the grid of the source")
        maps = [m.number for m in self.maps]
        if len(set(maps)) != len(maps):
            raise GeometryError(f"two maps share a number: {maps}")

    def of_segment(self, number: int) -> tuple[Measurement, ...]:
        """The measurements of one segment."""
        return tuple(m for m in self.measurements if m.segment == number)
