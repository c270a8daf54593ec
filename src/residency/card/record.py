"""What people and programs must know of a network beyond running it: who, for what, from which data, how good."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from residency.card.value import Digest, Line, Name, Range, Slug, Text, Value


class Publisher(Value):
    """Who answers for the model. `id` is stable (a domain name or URI), never a key."""

    id: Slug
    name: Line
    contact: Line | None = None


class Licences(Value):
    """SPDX expressions. `weights` is what the data demand of the weights."""

    code: Line
    weights: Line
    data: tuple[Line, ...] = ()
    research_only: bool = False


class Identity(Value):
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


class IntendedUse(Value):
    """Shown wherever a result is shown."""

    statement: Text
    users: Line
    setting: Line | None = None
    population: Text
    out_of_scope: tuple[Line, ...]
    contraindications: tuple[Line, ...] = ()
    oversight: Text
    role: Literal["measurement", "second reader", "triage", "demonstration"]


class Regulatory(Value):
    """Regulatory status; `notice` is the line that every result carries.

    reference     number of the decision (FDA) or certificate (CE)
    device_class  class and product code, as the authority gives them
    change_plan   where the predetermined change control plan lies
    ai_act_risk   risk class under Regulation (EU) 2024/1689
    """

    status: Literal["research only", "CE", "FDA", "other"]
    notice: Line
    reference: Line | None = None
    device_class: Line | None = None
    notified_body: Line | None = None
    udi: Line | None = None
    instructions: Line | None = None
    change_plan: Line | None = None
    ai_act_risk: Line | None = None


class DataSet(Value):
    """A set that the network was trained on."""

    name: Line
    version: Line | None = None
    licence: Line
    source: Line
    persons: Annotated[int, Field(ge=1)]
    cases: Annotated[int, Field(ge=1)]
    labels: Line
    sites: tuple[Line, ...] = ()
    scanners: tuple[Line, ...] = ()
    dates: Line | None = None
    exclusions: Line | None = None
    digest: Digest | None = None


class Federation(Value):
    """Training spread over sites that kept their data. Privacy budget (epsilon, delta); None: none was kept."""

    rounds: Annotated[int, Field(ge=1)]
    participants: Annotated[int, Field(ge=2)]
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None


class Training(Value):
    """How the weights came to be."""

    datasets: tuple[DataSet, ...]
    split: Text
    seed: int
    augmentation: Text
    loss: Line
    optimiser: Line
    steps: Annotated[int, Field(ge=0)]
    epochs: Annotated[float, Field(ge=0)] | None = None
    hardware: Line
    duration_minutes: Annotated[float, Field(ge=0)]
    energy_kwh: Annotated[float, Field(ge=0)] | None = None
    federation: Federation | None = None
    software: Mapping[Line, Line] = Field(default_factory=dict)
    config_digest: Digest | None = None


class Evaluation(Value):
    """One figure with its cohort and 95 % interval; calibration is a metric like others.

    external    the cohort comes from elsewhere than the training data
    comparison  the same figure of something else on the same cohort, in words
    """

    metric: Line
    definition: Line
    cohort: Line
    persons: Annotated[int, Field(ge=1)]
    cases: Annotated[int, Field(ge=1)]
    value: float
    low: float
    high: float
    subgroup: Line | None = None
    external: bool = False
    comparison: Line | None = None


class InputStatistics(Value):
    """What the training set looked like, to notice what is unlike it.

    percentiles  of intensity: percent -> value, before and after preparation
    volumes_mm3  by class name, over the training references
    """

    raw_percentiles: Mapping[Line, Range] = Field(default_factory=dict)
    prepared_percentiles: Mapping[Line, Range] = Field(default_factory=dict)
    spacing_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    field_of_view_mm: Mapping[Literal["LR", "PA", "SI"], Range] = Field(default_factory=dict)
    volumes_mm3: Mapping[Line, Range] = Field(default_factory=dict)


class Lineage(Value):
    """One edge: how this model came from another."""

    relation: Literal["fine-tuned-from", "quantised-from", "merged-from", "converted-from"]
    parent: Digest


class Compression(Value):
    """How a smaller or faster form was made of the network, and what it cost."""

    source_precision: Literal["f32", "bf16"]
    method: Line
    calibration: Line
    metric: Line
    change: float
    gate: Line
    passed: bool


class Latency(Value):
    """One measured run time."""

    cpu: Line
    threads: Annotated[int, Field(ge=1)]
    precision: Literal["f32", "bf16", "int8"]
    what: Line
    seconds: Annotated[float, Field(gt=0)]
    peak_memory_mb: Annotated[float, Field(gt=0)] | None = None


class Runtime(Value):
    """What the graph needs to run; its size in bytes stands in the manifest."""

    opset: Annotated[int, Field(ge=1)] | None = None
    engine: Line | None = None
    least_engine_version: Line | None = None
    instruction_sets: tuple[Line, ...] = ()
    measured: tuple[Latency, ...] = ()


class Monitoring(Value):
    """What a site should watch, and whom it tells.

    plausible_mm3  by class name: a result outside carries a warning
    drift          limits in words, beyond `statistics`
    """

    plausible_mm3: Mapping[Line, Range] = Field(default_factory=dict)
    drift: tuple[Line, ...] = ()
    contact: Line | None = None
