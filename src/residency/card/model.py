"""The fields of the card and its schema.

The lists follow Model Cards (Mitchell et al. 2019), MONAI's bundle metadata, the FDA's transparency principles for
machine-learning devices (2024) and DICOM's vocabularies. Every coded label that selects a model is in `inputs` and
`diseases`; nothing is ever selected by free text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from residency.codes import Code
from residency.errors import CardError
from residency.labels import Side, Weighting
from residency.recipe import Recipe

SCHEMA_VERSION = 1

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
# Without control characters: a card comes from strangers and is shown on terminals, which those would steer.
_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
_SOME_LINES = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_ONE_LINE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_ONE_LINE)]
Text = Annotated[str, StringConstraints(max_length=5000, pattern=_SOME_LINES)]
Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Range(_Value):
    """Closed interval; an end left out is open."""

    least: float | None = None
    most: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least {self.least} is above most {self.most}")
        return self

    def holds(self, value: float) -> bool:
        """True if the value lies inside."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        low = "" if self.least is None else f"{self.least:g}"
        high = "" if self.most is None else f"{self.most:g}"
        return f"{low}..{high}"


class Publisher(_Value):
    """Who answers for the model. `id` is stable (a domain name or URI), never a key."""

    id: Slug
    name: Line
    contact: Line | None = None


class Licences(_Value):
    """SPDX expressions. `weights` is what the data demand of the weights."""

    code: Line
    weights: Line
    data: tuple[Line, ...] = ()
    research_only: bool = False


class Identity(_Value):
    """Which model this is. Family groups versions; `sequence` orders them; version is for people."""

    name: Name
    family: Slug
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?$", max_length=32)]
    sequence: Annotated[int, Field(ge=1, le=999_999_999)]
    publisher: Publisher
    created: dt.datetime
    summary: Text
    citations: tuple[Line, ...] = ()

    @model_validator(mode="after")
    def _zoned(self) -> Identity:
        if self.created.tzinfo is None:
            raise ValueError("created needs a time zone, such as 2026-11-21T12:00:00Z")
        if not 1900 <= self.created.year <= 9000:
            raise ValueError(f"created lies in the year {self.created.year}")
        return self


class ContentCondition(_Value):
    """A condition measured on the pixels of candidates that passed every header gate."""

    name: Literal["skull_present"]
    value: bool


class Input(_Value):
    """One named input: the gates that a series must pass, and how it is prepared.

    spacing_mm, field_of_view_mm  by anatomical axis: "LR", "PA", "SI"; an axis left out is not demanded
    rows, columns, slices         of the series as stored
    orientations                  planes of acquisition that fit: axial, coronal, sagittal; empty = any
    regions                       what the series must show, all of them
    partial_cover                 True: a series that shows only part of `regions` fits
    larger_region                 True: a series of a region that contains `regions` fits (a brain model, a head)
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


class StepBefore(_Value):
    """A cascade: the family whose result gives the crop, chosen and explained like any other model."""

    family: Slug
    output: Slug
    margin_mm: Annotated[float, Field(ge=0)]


class OutputClass(_Value):
    """One class of an output. `index` is its channel; index 0 of a segmentation is the background and has no codes."""

    index: Annotated[int, Field(ge=0)]
    name: Name
    category: Code | None = None
    type: Code | None = None
    modifiers: tuple[Code, ...] = ()
    region: Code | None = None
    colour: Colour | None = None


class Decision(_Value):
    """How scores become findings, executed by Residency and never inside the graph.

    threshold              of the activated score; ignored for softmax over exclusive classes ("argmax")
    smallest_component_mm3 connected components (26 neighbours) below this volume are dropped
    largest_only           keep the largest component of each class
    """

    activation: Literal["softmax", "sigmoid", "none"]
    rule: Literal["argmax", "threshold"]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    smallest_component_mm3: Annotated[float, Field(ge=0)] = 0.0
    largest_only: bool = False


class Output(_Value):
    """One named output of the graph."""

    name: Slug
    tensor: Line
    kind: Literal["segmentation", "classification", "map"]
    classes: Annotated[tuple[OutputClass, ...], Field(min_length=1)]
    decision: Decision

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


class Tiling(_Value):
    """Sliding window in voxels of the prepared grid (slices, rows, columns); overlap is a share of the window."""

    window: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5


class IntendedUse(_Value):
    """Shown wherever a result is shown."""

    statement: Text
    users: Line
    population: Text
    out_of_scope: tuple[Line, ...]
    contraindications: tuple[Line, ...] = ()
    oversight: Text
    role: Literal["measurement", "second reader", "triage", "demonstration"]


class Regulatory(_Value):
    """Regulatory status; `notice` is the line that every result carries."""

    status: Literal["research only", "CE", "FDA", "other"]
    notice: Line
    reference: Line | None = None
    udi: Line | None = None
    instructions: Line | None = None


class DataSet(_Value):
    """A set that the network was trained on."""

    name: Line
    version: Line | None = None
    licence: Line
    source: Line
    persons: Annotated[int, Field(ge=1)]
    cases: Annotated[int, Field(ge=1)]
    labels: Line
    digest: Digest | None = None


class Training(_Value):
    """How the weights came to be."""

    datasets: tuple[DataSet, ...]
    split: Text
    seed: int
    augmentation: Text
    loss: Line
    optimiser: Line
    steps: Annotated[int, Field(ge=0)]
    hardware: Line
    duration_minutes: Annotated[float, Field(ge=0)]
    software: Mapping[Line, Line] = Field(default_factory=dict)
    config_digest: Digest | None = None


class Evaluation(_Value):
    """One figure with its cohort and 95 % interval."""

    metric: Line
    definition: Line
    cohort: Line
    persons: Annotated[int, Field(ge=1)]
    cases: Annotated[int, Field(ge=1)]
    value: float
    low: float
    high: float
    subgroup: Line | None = None


class InputStatistics(_Value):
    """What the training set looked like, to notice what is unlike it.

    percentiles  of intensity: percent -> value, before and after preparation
    volumes_mm3  by class name, over the training references
    """

    raw_percentiles: Mapping[Line, Range] = Field(default_factory=dict)
    prepared_percentiles: Mapping[Line, Range] = Field(default_factory=dict)
    spacing_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    field_of_view_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    volumes_mm3: Mapping[Line, Range] = Field(default_factory=dict)


class Golden(_Value):
    """The case that is replayed on admission: payload names, and how close the replay must come."""

    input: Slug
    expected: Slug
    source: Line
    least_dice: Annotated[float, Field(ge=0, le=1)] = 0.999


class Lineage(_Value):
    """One edge: how this model came from another."""

    relation: Literal["fine-tuned-from", "quantised-from", "merged-from", "converted-from"]
    parent: Digest


class Card(_Value):
    """The whole card. Serialised as canonical JSON inside the manifest; see `residency.package`."""

    schema_version: Literal[1] = 1
    identity: Identity
    licences: Licences
    task: Literal["segmentation", "classification", "regression", "saliency"]
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    diseases: tuple[Code, ...] = ()
    step_before: StepBefore | None = None
    tiling: Tiling
    intended_use: IntendedUse
    regulatory: Regulatory
    training: Training
    evaluation: tuple[Evaluation, ...]
    failure_modes: tuple[Line, ...] = ()
    statistics: InputStatistics = InputStatistics()
    golden: Golden
    parameters: Annotated[int, Field(ge=1)]
    supersedes: Digest | None = None
    lineage: tuple[Lineage, ...] = ()
    extensions: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names(self) -> Card:
        for kind, names in (("input", [i.name for i in self.inputs]), ("output", [o.name for o in self.outputs])):
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind}s share a name: {names}")
        return self


def parse_card(data: Mapping[str, Any]) -> Card:
    """A card from JSON-like data. Raises CardError naming wrong fields, with the nearest name for unknown ones."""
    try:
        return Card.model_validate_json(_as_json(data))
    except ValidationError as error:
        raise CardError("the model card is not valid: " + "; ".join(_explain(e) for e in error.errors()[:5])) from None


def card_schema() -> dict[str, Any]:
    """JSON Schema of the card, for editors and other programs."""
    return Card.model_json_schema()


def _as_json(data: Mapping[str, Any]) -> str:
    import json

    return json.dumps(data, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    raise CardError(f"the model card holds a {type(value).__name__}, which JSON cannot express")


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "card"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    unknown = str(error["loc"][-1])
    near = get_close_matches(unknown, _known_names(), n=1)
    return f"{where}: unknown field" + (f", did you mean '{near[0]}'?" if near else "")


def _known_names() -> set[str]:
    names: set[str] = set()
    waiting: list[Any] = [Card]
    seen: set[Any] = set()
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.update(kind.model_fields)
            waiting.extend(f.annotation for f in kind.model_fields.values())
        else:
            waiting.extend(a for a in get_args(kind) if not isinstance(a, str))
    return names
