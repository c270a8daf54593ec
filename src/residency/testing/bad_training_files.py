"""Training files that are wrong in the ways that people get them wrong, each with what must be said of it.

Every one is the sound file of `GOOD` with a change or two, beside the data of `write_data`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

GOOD: Mapping[str, Any] = {
    "name": "liver",
    "seed": 1,
    "threads": 2,
    "data": {
        "folder": "data",
        "name": "Livers",
        "licence": "CC0-1.0",
        "source": "made for tests",
        "labels": "made for tests",
        "classes": ["background", "liver", "tumour"],
    },
    "recipe": {
        "steps": [
            {"name": "orient", "parameters": {"letters": "SPL"}},
            {"name": "resample", "parameters": {"spacing_mm": 1.5}},
            {"name": "normalise"},
        ]
    },
    "net": {"name": "unet", "parameters": {"features": [8, 16, 32, 64]}},
    "patch": [48, 48, 48],
    "schedule": {"steps": 1000, "batch": 2, "rate": 0.001},
}
"""A training file without a fault: a 3D U-Net of four levels."""

FLAT: Mapping[str, Any] = {"net": {"name": "unet-16"}, "patch": [64, 64]}
"""Changes that make it train a 2D net on slices."""

CLASSIFIES: Mapping[str, Any] = {
    "net": {"name": "resnet18"},
    "patch": [64, 64],
    "loss": "cross-entropy",
    "data.classes": ["normal", "pneumonia"],
    "data.tasks": {"finding": ["normal", "pneumonia"]},
    "data.reference": None,
}
"""Changes that make it train a net that classifies radiographs."""

_PERSONS = 6
GONE = object()
"""In place of a value: the key is left out."""


@dataclass(frozen=True)
class Bad:
    """One wrong training file.

    what     the mistake, in words
    key      that the error must name
    instead  what the error must say to do
    changes  of `GOOD`: places of keys, joined by dots, with their values
    text     in place of the whole file
    """

    what: str
    key: str
    instead: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    def write(self, folder: Path) -> Path:
        """The training file, in a folder that `write_data` has been given."""
        file = folder / "train.yaml"
        file.write_text(self.text or yaml.safe_dump(changed(self.changes), sort_keys=False), encoding="utf-8")
        return file


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`GOOD` with these changes; numbers in a place count the items of a list."""
    values: dict[str, Any] = copy.deepcopy(dict(GOOD))
    for place, value in changes.items():
        part: Any = values
        *way, last = place.split(".")
        for key in way:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        if value is GONE:
            del part[last]
        else:
            part[int(last) if isinstance(part, list) else last] = copy.deepcopy(value)
    return values


def write_data(folder: Path) -> None:
    """Beside the training files: a table of cases whose images are empty files, folds, and weights that are none."""
    data = folder / "data"
    lines = ["name,person,split,finding"]
    for number in range(_PERSONS):
        for kind in ("images", "labels"):
            (data / kind).mkdir(parents=True, exist_ok=True)
            (data / kind / f"c{number}.nii.gz").touch()
        lines.append(f"c{number},p{number},train,{'pneumonia' if number % 2 else 'normal'}")
    (data / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [f"c{number}" for number in range(_PERSONS)]
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[:4], "val": names[4:]}]
    (folder / "folds.json").write_text(json.dumps(folds), encoding="utf-8")
    (folder / "flat.safetensors").write_bytes(b"no weights")


OF_A_PEER = (
    Bad("an unknown optimiser", "schedule.optimiser", "always AdamW, set by", {"schedule.optimiser": "adamm"}),
    Bad("an unknown preparation", "recipe", "did you mean 'resample'", {"recipe.steps.1.name": "resampel"}),
    Bad("a number of steps that is no whole number", "schedule.steps", "a whole number", {"schedule.steps": 10.5}),
    Bad(
        "a misspelt key that must be there",
        "shcedule",
        "did you mean 'schedule'",
        {"schedule": GONE, "shcedule": GOOD["schedule"]},
    ),
    Bad(
        "a misspelt setting of the net",
        "net.parameters",
        "did you mean 'features'",
        {"net.parameters": {"featuers": [8, 16]}},
    ),
    Bad("a conversion that does not exist", "net.convert", "one of 'acs', ", {**FLAT, "net.convert": "banana"}),
    Bad("an unknown metric", "judged_by", "did you mean 'dice'", {"judged_by": "dise"}),
    Bad("an unknown augmentation", "augment.elastic", "known here: ", {"augment.elastic": 1.0}),
    Bad("an unknown loss", "loss", "did you mean 'dice'", {"loss": "dcie"}),
    Bad("a rate below 0", "schedule.rate", "a number above 0", {"schedule.rate": -1}),
    Bad("a patch of 50 voxels for a net of four levels", "patch", "multiples of 8", {"patch": [50, 50, 50]}),
)
"""What another trainer was given, and mostly took without a word."""

OF_THE_FILE = (
    Bad("a key given twice", "seed", "line 2", text="seed: 1\nseed: 2\n"),
    Bad("a bracket that is not closed", "train.yaml", "line 3", text="name: liver\npatch: [48, 48\nseed: 1\n"),
    Bad("a key left out", "schedule.batch", "is missing: crops that", {"schedule.batch": GONE}),
    Bad("the name that another trainer has for it", "batch_size", "that is schedule.batch", {"batch_size": 4}),
    Bad("a key in the wrong place", "steps", "did you mean schedule.steps", {"steps": 1000}),
    Bad("a name that is no name", "name", "1 to 64 of a-z", {"name": "Liver v2"}),
    Bad("a seed below 0", "seed", "at least 0", {"seed": -1}),
    Bad("no thread", "threads", "at least 1", {"threads": 0}),
)

OF_THE_DATA = (
    Bad("a folder that is not there", "data.folder", "name their folder with --data", {"data.folder": "dta"}),
    Bad("an unknown kind of data", "data.kind", "did you mean 'nnunet'", {"data.kind": "nnunetv2"}),
    Bad("a column that the table has not", "'patient'", "it has: name, person", {"data.person_column": "patient"}),
    Bad("a single class", "data.classes", "at least 2", {"data.classes": ["liver"]}),
    Bad("a class that YAML takes for false", "data.classes", "quotes", {"data.classes": ["background", False]}),
    Bad("a class named twice", "data.classes", "a name of its own", {"data.classes": ["background", "liver", "liver"]}),
    Bad(
        "a table's key for an nnU-Net folder",
        "'image'",
        "is for data of kind 'table'",
        {"data.kind": "nnunet", "data.image": "imagesTr/{name}.nii.gz"},
    ),
    Bad(
        "a pattern of persons without its group",
        "data.person_pattern",
        "a group in round brackets",
        {"data.kind": "nnunet", "data.person_pattern": "^[0-9]+"},
    ),
    Bad("a share held out in percent", "data.validation_share", "below 1", {"data.validation_share": 20}),
    Bad(
        "a fold and a share",
        "'fold'",
        "leave out 'validation_share'",
        {"data.split_file": "folds.json", "data.fold": 0, "data.validation_share": 0.2},
    ),
    Bad(
        "a fold that the file has not",
        "data.fold",
        "holds the folds 0 to 1",
        {"data.split_file": "folds.json", "data.fold": 5},
    ),
    Bad(
        "a file of folds that is not there",
        "data.split_file",
        "No such file",
        {"data.split_file": "fold.json", "data.fold": 0},
    ),
)

OF_THE_NET = (
    Bad("an unknown net", "net.name", "did you mean 'unet", {"net.name": "unett"}),
    Bad("one number where a list belongs", "net.parameters", "a list of whole numbers", {"net.parameters.features": 8}),
    Bad("the number of classes", "net.parameters", "it comes from the data", {"net.parameters.classes": 3}),
    Bad("a 2D net on volumes", "net.convert", "net.convert: acs, or", {"net": {"name": "unet-16"}}),
    Bad("a 3D net converted to 3D", "net", "leave out convert", {"net.convert": "acs"}),
    Bad("weights that are not there", "net.start", "No such file", {"net.start": "liver.safetensors"}),
    Bad(
        "other weights than those meant",
        "net.start_sha256",
        "has sha256",
        {"net.start": "flat.safetensors", "net.start_sha256": "0" * 64},
    ),
    Bad(
        "weights for an encoder that the net has not",
        "net",
        "resnet18-unet and its like",
        {"net.start": "flat.safetensors", "net.start_into": "encoder"},
    ),
    Bad("a patch of one side", "patch", "three sides (slice, row, column)", {"patch": [48]}),
)

OF_LEARNING = (
    Bad(
        "a misspelt parameter of a step",
        "recipe",
        "did you mean 'spacing_mm'",
        {"recipe.steps.1.parameters": {"spacing": 1.5}},
    ),
    Bad(
        "percentiles the wrong way round",
        "recipe",
        "is not below",
        {"recipe.steps.1": {"name": "clip", "parameters": {"percentiles": [99, 1]}}},
    ),
    Bad(
        "weights for two classes of three",
        "loss",
        "one for each of 3 classes",
        {"loss": {"name": "cross-entropy", "parameters": {"weights": [1.0, 2.0]}}},
    ),
    Bad(
        "a misspelt parameter of a loss",
        "loss",
        "did you mean 'gamma'",
        {"loss": {"name": "focal", "parameters": {"gama": 2.0}}},
    ),
    Bad("a loss of masks for a net that classifies", "loss", "classification has", {**CLASSIFIES, "loss": "dice"}),
    Bad("no column of classes", "data.tasks", "name one column", {**CLASSIFIES, "data.tasks": {}}),
    Bad("a warming up as long as all", "schedule.warmup", "less than schedule.steps", {"schedule.warmup": 1000}),
    Bad("a restart after the end", "schedule.restarts", "take more steps", {"schedule.restarts": [2000]}),
    Bad("an average that never moves", "schedule.average", "below 1", {"schedule.average": 1.0}),
    Bad("`no` for an axis", "augment.mirror_axis", "leave the key out", {"augment.mirror_axis": False}),
    Bad("more than half a turn", "augment.rotate_degrees", "at most 180", {"augment.rotate_degrees": 360}),
    Bad(
        "sharp crops after the end",
        "augment.sharp_from",
        "not below schedule.steps",
        {"augment.sharp_share": 0.5, "augment.sharp_from": 1600},
    ),
    Bad(
        "the size of lesions that are not made",
        "synthesis.lesion_voxels",
        "give synthesis.lesions",
        {"synthesis.lesion_voxels": 4.0},
    ),
    Bad(
        "mirrored across the slices of one slice",
        "augment.mirror_axis",
        "1 for rows or 2 for columns",
        {**FLAT, "augment.mirror_axis": 0},
    ),
    Bad("a share in percent", "sampling.foreground", "at most 1", {"sampling.foreground": 50}),
    Bad("classes balanced where voxels are told", "sampling.balanced", "leave it out", {"sampling.balanced": True}),
    Bad("chosen by the figure of another task", "judged_by: auc", "leave it out", {"judged_by": "auc"}),
    Bad("a fourth axis", "export.symmetric_axis", "at most 2", {"export.symmetric_axis": 3}),
    Bad(
        "volumes of a net that classifies",
        "export.unbiased_volumes",
        "leave it out",
        {**CLASSIFIES, "export.unbiased_volumes": True},
    ),
)

BAD = (*OF_A_PEER, *OF_THE_FILE, *OF_THE_DATA, *OF_THE_NET, *OF_LEARNING)
