"""The training file: YAML, strict. It is read and checked whole before anything heavy is imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from residency.errors import ConfigError
from residency.files.strict_yaml import LARGEST_FILE, read_yaml
from residency.prepare import check_recipe
from residency.recipe import Recipe
from residency.train.data_part import DataPart
from residency.train.loss_part import DEFAULT, LossPart
from residency.train.synthesis_part import SynthesisPart

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetPart(_Part):
    """A net of `residency.nets` by name, and its parameters beyond channels and classes.

    convert       what makes a 2D net three-dimensional; see `residency.nets.acs`
    start         file of weights to begin with, safetensors or a state dict saved by torch, beside the training file
                  unless absolute; those of the 2D net, strictly, if it is converted
    start_sha256  of that file, filled in where it is left out: what is trained depends on its content, not on its place
    """

    name: str
    parameters: Mapping[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    convert: Literal["acs", "soft-acs", "mean-acs", "i3d", "slicewise"] | None = None
    start: Path | None = None
    start_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _digest_of_something(self) -> Self:
        if self.start_sha256 is not None and self.start is None:
            raise ValueError("start_sha256 is of the file `start`, which is missing")
        return self

    def told(self) -> dict[str, Any]:
        """Plain values for reports and digests: what is set, without the place of a file."""
        return self.model_dump(mode="json", exclude={"start"}, exclude_none=True)


class SchedulePart(_Part):
    """How long and how fast.

    The rate rises over `warmup` steps, stays at `rate`, and falls in a straight line to 0 over the last `decay` share
    of the steps. `average` is the share of the old weights kept at each step in the running average that is validated
    and exported. `patience` is the number of validations without a better one after which training stops.

    `restarts` are steps at which the rate rises and falls anew, up to the next restart or the end (Loshchilov and
    Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017).
    """

    steps: Count
    batch: Count
    rate: Positive
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Share = 0.4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    largest_gradient: Positive = 5.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    validate_every: Count = 200
    save_every: Count = 50
    patience: Count = 1000
    restarts: tuple[Count, ...] = ()

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        first = max((start for start in self.restarts if start <= step), default=0)
        last = min((start for start in self.restarts if start > step), default=self.steps)
        falling = max(1, round(self.decay * (last - first)))
        rise = min(1.0, (step - first + 1) / (self.warmup + 1))
        return self.rate * rise * min(1.0, (last - step) / falling)


class AugmentPart(_Part):
    """On-the-fly augmentation; see `residency.train.augment` for what each number bounds.

    Turning, scaling and bending interpolate, and so smooth a little; the images that come later are not smoothed. From
    step `sharp_from` on a `sharp_share` of the crops is only mirrored and shifted, by whole voxels.
    """

    mirror_axis: Annotated[int, Field(ge=0, le=2)] | None = None
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shift_voxels: Annotated[float, Field(ge=0)] = 0.0
    bend_voxels: Annotated[float, Field(ge=0)] = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    brightness: Annotated[float, Field(ge=0)] = 0.0
    gamma: Annotated[float, Field(ge=0)] = 0.0
    noise: Annotated[float, Field(ge=0)] = 0.0
    sharp_share: Share = 0.0
    sharp_from: Annotated[int, Field(ge=0)] = 0


class SamplingPart(_Part):
    """Which part of the data the training crops show.

    foreground  share of the crops that lie about a voxel of a structure, as near to its middle as the volume allows,
                each structure that the case has as often as the others; the rest lie anywhere. For nets that segment
    balanced    each class as often as the others, however rare it is in the data. For nets that classify
    """

    foreground: Share = 0.0
    balanced: bool = False


class ExportPart(_Part):
    """What is done to the chosen weights on the way into the graph; see `residency.train.answer`.

    symmetric_axis    0, 1 or 2 (slice, row, column): the mean of the answers to the image and to its mirror image
    unbiased_volumes  shift the background's scores until volumes are right on the average of the held-out persons
    """

    symmetric_axis: Annotated[int, Field(ge=0, le=2)] | None = None
    unbiased_volumes: bool = False


class TrainingConfig(_Part):
    """A whole training file.

    patch      voxels (slice, row, column) that a training step sees of a prepared volume; the window to use the net
               with. For a 2D net one slice, which (row, column) says too
    loss       a name, names with their weights, or a list; see `residency.train.loss_part`
    threads    crops computed side by side; the result does not depend on it, save for a net with batch normalisation
               or dropout: that sees its batch whole, and repeats itself bit by bit on as many threads
    judged_by  the figure, of persons held out, that chooses the weights: by default the mean Dice of a net that
               segments, the mean area under the ROC curve of one that classifies
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=256)]
    data: DataPart
    recipe: Recipe
    net: NetPart
    patch: tuple[Count, Count, Count]
    loss: LossPart = DEFAULT
    schedule: SchedulePart
    augment: AugmentPart = AugmentPart()
    sampling: SamplingPart = SamplingPart()
    synthesis: SynthesisPart = SynthesisPart()
    judged_by: Literal["dice", "auc", "balanced-accuracy"] | None = None
    export: ExportPart = ExportPart()

    @field_validator("patch", mode="before")
    @classmethod
    def _one_slice(cls, value: Any) -> Any:
        return [1, *value] if isinstance(value, list | tuple) and len(value) == 2 else value

    @model_validator(mode="after")
    def _recipe_and_loss_can_be_made(self) -> Self:
        check_recipe(self.recipe)
        self.loss.check(len(self.data.classes))
        return self

    def digest(self) -> str:
        """SHA-256 of everything that the graph depends on but the data: all but the data's place and the threads."""
        return _digest(self._values())

    def learning_digest(self) -> str:
        """The same without `export`: what the weights depend on. A run goes on only while this stays as it was."""
        values = self._values()
        del values["export"]
        return _digest(values)

    def _values(self) -> dict[str, Any]:
        later = {"sampling", "judged_by", "synthesis"}  # keys that count only where they are used, so that digests stay
        values = self.model_dump(mode="json", exclude={"threads", *later})
        used = self.model_dump(mode="json", include=later, exclude_defaults=True)
        return values | {key: value for key, value in used.items() if value} | self._told()

    def _told(self) -> dict[str, Any]:
        return {"net": self.net.told(), "data": self.data.told()}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_config(path: Path) -> TrainingConfig:
    """The checked training file, its data folder made absolute.

    Weights to start with are looked at, not loaded. Raises ConfigError, in one line with the key, for a file that
    cannot be read, is no YAML mapping, names a key twice or an unknown one (with the nearest known one), or holds a
    value that cannot be; and for weights that are not those of `start_sha256`, or are not there while that is left out.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"the training file {path} cannot be read: {error.strerror}") from None
    values = read_yaml(text, f"the training file {path}")
    try:
        config = TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explained(error)}") from None
    beside = path.resolve().parent
    return config.model_copy(update={"data": config.data.placed(beside), "net": _with_start(config.net, beside)})


def _with_start(net: NetPart, beside: Path) -> NetPart:
    """The net with the place and the digest of its first weights."""
    if net.start is None:
        return net
    file = net.start if net.start.is_absolute() else (beside / net.start).resolve()
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        if net.start_sha256 is None:
            raise ConfigError(
                f"net.start: {file} cannot be read: {error.strerror}; only a run that has begun can do without it, and "
                "only with its net.start_sha256"
            ) from None
        found = net.start_sha256  # a run that has begun, and its export, can do without the file
    if net.start_sha256 not in (None, found):
        raise ConfigError(f"net.start_sha256: {file} has sha256 {found}, got '{net.start_sha256}'")
    return net.model_copy(update={"start": file, "start_sha256": found})


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {first['msg']}, got {str(first['input'])[:80]!r}"
    known = _keys_at(place[:-1])
    near = get_close_matches(place[-1], known, n=1)
    hint = f", did you mean '{near[0]}'?" if near else f"; known here: {', '.join(known)}"
    return f"unknown key '{'.'.join(place)}'{hint}"


def _keys_at(place: list[str]) -> list[str]:
    model: Any = TrainingConfig
    for part in place:
        if part.isdigit():  # an item of the recipe's steps
            model = next(iter(Recipe.model_fields["steps"].annotation.__args__))  # type: ignore[union-attr]
        else:
            model = model.model_fields[part].annotation
    return list(model.model_fields)
