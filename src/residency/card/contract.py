"""What a network needs and gives: the labels by which it is chosen, how it is fed, and how its scores are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.card.value import Line, Name, Range, Slug, Value
from residency.codes import Code
from residency.labels import Side, Weighting
from residency.recipe import Recipe

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]

_SIDES = frozenset({("SCT", "7771000"), ("SCT", "24028007"), ("SCT", "51440002")})
"""Left, right, right and left: a side is stated only where it is proven for the series at hand."""


class ContentCondition(Value):
    """A condition measured on the pixels of candidates that passed every header gate."""

    name: Literal["skull_present"]
    value: bool


class Input(Value):
    """One named input: the gates that a series must pass, and how it is prepared.

    spacing_mm, field_of_view_mm  by anatomical axis: "LR", "PA", "SI"; an axis left out is not demanded
    rows, columns, slices         of the series as stored
    orientations                  planes of acquisition that fit: axial, coronal, sagittal; empty = any
    regions                       what the series must show, all of them
    partial_cover                 True: a series that shows only part of `regions` fits
    larger_region                 True: a series of a region that contains `regions` fits (a brain model, a head)
    channel                       what the channel shows, where several inputs become channels of one tensor
    unit                          of the intensities that the recipe expects, such as HU; None: arbitrary
    missing                       what happens without a series for this input; only refusing is done
    sop_classes                   empty: the image classes of the modalities themselves, no Secondary Capture
    """

    name: Slug
    tensor: Line
    modalities: Annotated[
        tuple[Literal["CT", "MR", "CR", "DX", "RG", "MG", "US", "PT", "NM", "XA"], ...], Field(min_length=1)
    ]
    regions: Annotated[tuple[Code, ...], Field(min_length=1)]
    recipe: Recipe
    sop_classes: tuple[Line, ...] = ()
    partial_cover: bool = False
    larger_region: bool = False
    side: Side | None = None
    weightings: tuple[Weighting, ...] = ()
    contrast: Literal["required", "refused"] | None = None
    spacing_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    field_of_view_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    rows: Range | None = None
    columns: Range | None = None
    slices: Range | None = None
    orientations: tuple[Literal["axial", "coronal", "sagittal"], ...] = ()
    derived: Literal["accepted", "refused"] = "refused"
    photometric: tuple[Literal["MONOCHROME1", "MONOCHROME2", "RGB"], ...] = ("MONOCHROME1", "MONOCHROME2")
    age_years: Range | None = None
    sex: Literal["M", "F"] | None = None
    content: tuple[ContentCondition, ...] = ()
    dimensions: Literal[2, 3] = 3
    channel: Line | None = None
    unit: Line | None = None
    missing: Literal["refused"] = "refused"


class StepBefore(Value):
    """A cascade: the family whose result gives the crop, chosen and explained like any other model.

    family     of the model that runs first, on the whole series
    output     of that model: a segmentation with a class of which the type is one of the regions of this card's input
    margin_mm  left round the structure on every side, where the series reaches so far
    paired     True: the structure is paired; each of the two gives a crop, and the crops tell the side
    """

    family: Slug
    output: Slug
    margin_mm: Annotated[float, Field(ge=0)]
    paired: bool = False


class OutputClass(Value):
    """One class of an output. `index` is its channel; index 0 of a segmentation is the background and has no codes.

    largest_only  of a segmentation: keep the largest component of this class alone, whatever becomes of the others
    """

    index: Annotated[int, Field(ge=0)]
    name: Name
    category: Code | None = None
    type: Code | None = None
    modifiers: tuple[Code, ...] = ()
    region: Code | None = None
    colour: Colour | None = None
    largest_only: bool = Field(default=False, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _no_side(self) -> OutputClass:
        if any((code.scheme, code.value) in _SIDES for code in self.modifiers):
            raise ValueError(f"class '{self.name}' has a side among its modifiers; a side comes from the series")
        return self


class Decision(Value):
    """How scores become findings, executed by Residency and never inside the graph.

    threshold              of the activated score; ignored for softmax over exclusive classes ("argmax")
    smallest_component_mm3 connected components (26 neighbours) below this volume are dropped
    largest_only           keep the largest component of each class
    interpolated           what is brought from the prepared grid onto the source's: the scores, or what the activation
                           makes of them; imported networks may have been judged by the latter
    """

    activation: Literal["softmax", "sigmoid", "none"]
    rule: Literal["argmax", "threshold"]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    smallest_component_mm3: Annotated[float, Field(ge=0)] = 0.0
    largest_only: bool = False
    interpolated: Literal["scores", "activated"] = Field(default="scores", exclude_if=lambda value: value == "scores")


class Output(Value):
    """One named output of the graph, float32 scores. `confidence` says what a score means, and what it does not.

    quantity, unit  of a map: what its values are, and in which UCUM unit; without, activated scores are probabilities
                    and others are scores of the network, without a unit
    stored_as       of a map: "map", a Parametric Map for each class, or "probabilities", a fractional Segmentation of
                    all classes
    """

    name: Slug
    tensor: Line
    kind: Literal["segmentation", "classification", "map"]
    classes: Annotated[tuple[OutputClass, ...], Field(min_length=1)]
    decision: Decision
    confidence: Line | None = None
    # Left out where they say nothing, so that cards from before they were there keep their digest.
    quantity: Code | None = Field(default=None, exclude_if=lambda value: value is None)
    unit: Code | None = Field(default=None, exclude_if=lambda value: value is None)
    stored_as: Literal["map", "probabilities"] = Field(default="map", exclude_if=lambda value: value == "map")

    @model_validator(mode="after")
    def _indices(self) -> Output:
        if [c.index for c in self.classes] != list(range(len(self.classes))):
            raise ValueError("classes must be listed by index from 0 without a gap")
        if self.kind == "segmentation":
            for c in self.classes:
                background = c.index == 0 and self.decision.rule == "argmax"
                if not background and (c.category is None or c.type is None):
                    raise ValueError(f"class '{c.name}' of a segmentation needs a category and a type code")
        return self

    @model_validator(mode="after")
    def _largest_only(self) -> Output:
        """Refused where nothing would carry it out."""
        for c in self.classes:
            if c.largest_only and self.kind != "segmentation":
                raise ValueError(
                    f"largest_only of class '{c.name}' is of segmentations; a {self.kind} has no components"
                )
            if c.largest_only and c.index == 0 and self.decision.rule == "argmax":
                raise ValueError(f"largest_only of class '{c.name}': the background is what the other classes leave")
        return self

    @model_validator(mode="after")
    def _of_maps(self) -> Output:
        said = self.quantity is not None or self.unit is not None or self.stored_as != "map"
        if said and self.kind != "map":
            raise ValueError("quantity, unit and stored_as are of maps")
        if self.stored_as == "map":
            return self
        if self.quantity is not None or self.unit is not None:
            raise ValueError("a map that is stored as probabilities has no other quantity or unit")
        if self.decision.activation == "none":
            raise ValueError("a map is stored as probabilities only if softmax or sigmoid makes its scores such")
        for c in self.classes:
            coded = c.category is not None and c.type is not None
            if not coded and not (c.index == 0 and len(self.classes) > 1):
                raise ValueError(f"class '{c.name}' of a map of probabilities needs a category and a type code")
        return self


class Tiling(Value):
    """Sliding window in voxels of the prepared grid (slices, rows, columns); overlap is a share of the window.

    blend  of windows that overlap: "gaussian" counts the middle of a window more than its border, "even" all alike
    """

    window: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    blend: Literal["gaussian", "even"] = Field(default="gaussian", exclude_if=lambda value: value == "gaussian")


class Golden(Value):
    """The case that is replayed on admission: payload names, and how close the replay must come.

    input  of the card's first input
    more   of each further one, by the input's name; all on one grid
    """

    input: Slug
    expected: Slug
    source: Line
    least_dice: Annotated[float, Field(ge=0.9, le=1)] = 0.999
    more: Mapping[Slug, Slug] = Field(default_factory=dict, exclude_if=lambda value: not value)
