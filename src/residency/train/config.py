"""The training file: YAML or TOML, strict. It is read and checked whole before anything heavy is imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from residency.errors import ConfigError
from residency.files.bounded import read_bounded
from residency.files.strict_toml import read_toml
from residency.files.strict_yaml import LARGEST_FILE, read_yaml
from residency.prepare import faults_of
from residency.recipe import Recipe
from residency.train.config_errors import Problem, problems_of, told
from residency.train.data_part import DataPart
from residency.train.device_part import DevicePart
from residency.train.loss_part import DEFAULT, LossPart
from residency.train.net_part import NetPart
from residency.train.part import Count, Part, Positive, SeveralError, Share, as_value_error
from residency.train.synthesis_part import SynthesisPart
from residency.train.together import clashes

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class SchedulePart(Part):
    """How long and how fast.

    steps             in all; each learns from one batch
    batch             crops that a step learns from
    rate              the learning rate of AdamW, at its highest
    warmup            steps over which the rate rises to it
    decay             last share of the steps, over which it falls to 0 in a straight line
    weight_decay      of AdamW
    largest_gradient  norm of all gradients together, above which they are scaled down to it
    average           share of the old weights kept at each step in the running average, which is validated and exported
    validate_every    steps between validations
    save_every        steps between checkpoints
    patience          validations in a row without a better one, after which training ends
    restarts          steps at which the rate rises and falls anew, up to the next restart or the end (Loshchilov and
                      Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017)
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


class AugmentPart(Part):
    """What is drawn anew for each training crop. Of a patch of one slice everything happens within the slice.

    Turning, scaling and bending interpolate, and so smooth a little; the images that come later are not smoothed.

    mirror_axis     0, 1 or 2 (slice, row, column): along which half of the crops are mirrored
    rotate_degrees  largest angle about each axis
    scale           largest growth or shrinkage, as a logarithm; half as much more on each axis by itself
    shift_voxels    largest distance beyond the places where a crop lies inside the volume
    bend_voxels     largest standard deviation of a smooth random displacement
    contrast        largest share by which intensities are multiplied up or down, in half of the crops
    brightness      largest number added to or taken from intensities, in half of the crops
    gamma           largest logarithm of the exponent of a gamma curve, in half of the crops
    noise           largest standard deviation of noise, in half of the crops
    coarse_voxels   largest side, 1 to 2, of coarser voxels that a quarter of the crops is brought to and back
    sharp_share     share of the crops that are only mirrored and shifted, by whole voxels
    sharp_from      step from which they are
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
    coarse_voxels: Annotated[float, Field(ge=1, le=2)] = 1.0
    sharp_share: Share = 0.0
    sharp_from: Annotated[int, Field(ge=0)] = 0


class SamplingPart(Part):
    """Which part of the data the training crops show.

    foreground  share of the crops that lie about a voxel of a structure, as near to its middle as the volume allows,
                each structure that the case has as often as the others; the rest lie anywhere. For nets that segment
    balanced    each class as often as the others, however rare it is in the data. For nets that classify
    """

    foreground: Share = 0.0
    balanced: bool = False


class ExportPart(Part):
    """What is done to the chosen weights on the way into the graph.

    symmetric_axis    0, 1 or 2 (slice, row, column): the mean of the answers to the image and to its mirror image
    unbiased_volumes  shift the background's scores until volumes are right on the average of the held-out persons
    """

    symmetric_axis: Annotated[int, Field(ge=0, le=2)] | None = None
    unbiased_volumes: bool = False


class TrainingConfig(Part):
    """A whole training file.

    name       of the run, 1 to 64 of a-z, 0-9 and dash; its folder is named after it
    seed       of everything that is drawn at random: the same file with the same data gives the same weights
    recipe     `steps`, a list: from an image to what the net sees, in training and in the hospital alike. Each has its
               `name`, and `parameters`
    patch      voxels (slice, row, column) that a training step sees of a prepared volume; the window to use the net
               with. For a 2D net one slice, which (row, column) says too
    loss       what is minimised: a name, names with their weights, or a list
    threads    crops computed side by side; the result does not depend on it, save for a net with batch normalisation
               or dropout: that sees its batch whole, and repeats itself bit by bit on as many threads
    judged_by  the figure, of persons held out, that chooses the weights: by default the mean Dice of a net that
               segments, the mean area under the ROC curve of one that classifies
    logs       `tensorboard`: the run folder gets one for TensorBoard, beside the `log.jsonl` that is always there
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
    device: DevicePart = DevicePart()
    logs: Literal["tensorboard"] | None = None

    @field_validator("patch", mode="before")
    @classmethod
    def _one_slice(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) not in (2, 3):
            raise ValueError(f"three sides (slice, row, column) are expected, or two of one slice, got {len(value)}")
        return [1, *value] if len(value) == 2 else value

    @field_validator("loss", "recipe", mode="wrap")
    @classmethod
    def _in_these_words(cls, value: Any, read: Callable[[Any], Any]) -> Any:
        with as_value_error():
            made = read(value)
        if isinstance(made, Recipe) and (faults := faults_of(made)):
            raise SeveralError(faults)
        return made

    def digest(self) -> str:
        """SHA-256 of everything that the graph depends on but the data: not of places, threads, device and logs."""
        return _digest(self._values())

    def learning_digest(self) -> str:
        """The same without `export`: what the weights depend on. A run goes on only while this stays as it was."""
        return _digest(self.decisive())

    def decisive(self) -> dict[str, Any]:
        """What `learning_digest` is of, as plain values."""
        return {key: value for key, value in self._values().items() if key != "export"}

    def _values(self) -> dict[str, Any]:
        later = {"sampling", "judged_by", "synthesis"}  # keys that count only where they are used, so that digests stay
        values = self.model_dump(mode="json", exclude={"threads", "device", "logs", *later})
        if self.augment.coarse_voxels == 1:
            del values["augment"]["coarse_voxels"]
        used = self.model_dump(mode="json", include=later, exclude_defaults=True)
        return values | {key: value for key, value in used.items() if value} | self._told()

    def _told(self) -> dict[str, Any]:
        return {"net": self.net.told(), "data": self.data.told(), **self.device.told()}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_config(path: Path) -> TrainingConfig:
    """The checked training file, TOML where its name ends in .toml and YAML elsewhere; its places made absolute.

    Weights to start with are looked at, not loaded. Raises ConfigError, with the file, the key, the reason and what to
    write instead, for a file that cannot be read, is no mapping, names a key twice or an unknown one (with the nearest
    known one), or holds a value that cannot be, or values that cannot be together; and for weights that are not those
    of `start_sha256`, or are not there while that is left out. Where several things are wrong the first stands in the
    first line with the number of the others, and these in the lines below.
    """
    try:
        text = read_bounded(path, LARGEST_FILE)
    except OSError as error:
        raise ConfigError(f"the training file {path} cannot be read: {error.strerror}") from None
    read = read_toml if path.suffix.lower() == ".toml" else read_yaml
    values = read(text, f"the training file {path}")
    problems: list[Problem] = []
    unsound: set[str] = set()
    try:
        config = TrainingConfig.model_validate(values)
    except ValidationError as error:
        problems += problems_of(error, TrainingConfig)
        unsound = {str(each["loc"][0]) for each in error.errors()}
        config = _the_sound_part(values, unsound)
    problems += clashes(config, unsound)
    placed: dict[str, DataPart | NetPart] = {}
    for name, part in (("data", config.data), ("net", config.net)):
        try:
            placed[name] = part.placed(path.resolve().parent)
        except ConfigError as error:
            problems.append(Problem.of(error))
    if problems:
        raise ConfigError(told(path, problems))
    return config.model_copy(update=placed)


_PLAIN: Mapping[str, Any] = {
    "name": "plain",
    "seed": 0,
    "threads": 1,
    "data": {"folder": ".", "name": "", "licence": "", "source": "", "labels": "", "classes": ["nothing", "something"]},
    "recipe": {},
    "net": {"name": "unet"},
    "patch": [1, 1, 1],
    "schedule": {"steps": 1, "batch": 1, "rate": 1},
}
"""A sound value of every key that must be there."""


def _the_sound_part(values: Mapping[str, Any], unsound: Collection[str]) -> TrainingConfig:
    """So that all problems are told at once: the file with plain values in place of those that are not sound."""
    sound = {key: value for key, value in values.items() if key not in unsound}
    return TrainingConfig.model_validate({**_PLAIN, **sound})
