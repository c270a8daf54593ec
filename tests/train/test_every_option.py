"""Every key of a training file changes something: what is read, trained, sampled, judged, exported or told.

`PROOFS` says for each key what to look at and another value; a key that nobody proved fails the test. What is looked at
is computed by the parts that a training runs, on a data set of a few small volumes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from residency.cli.train import settled
from residency.errors import ResidencyError
from residency.nets import build
from residency.train.answer import Answering, answering
from residency.train.config import TrainingConfig, read_config
from residency.train.config_keys import keys_of
from residency.train.crops import crop
from residency.train.device import find_device
from residency.train.loop import load, workers
from residency.train.progress import Progress
from residency.train.report import training_report
from residency.train.run import run_training
from residency.train.sources import divided
from residency.train.state import Outcome, State, make_net, read_tensors

CLASSES = ["background", "ball", "shell"]
SIDE, CASES = 10, 8


@dataclass(frozen=True)
class Room:
    """Where the data and the training files of these tests lie."""

    folder: Path

    def config(self, values: Mapping[str, Any]) -> TrainingConfig:
        file = self.folder / "train.yaml"
        file.write_text(yaml.safe_dump(dict(values), sort_keys=False))
        return read_config(file)

    def fresh(self) -> Path:
        """A folder that is not there yet."""
        number = sum(1 for _ in self.folder.glob("made-*"))
        made = self.folder / f"made-{number}"
        made.mkdir()
        return made / "new"


Look = Callable[[Room, TrainingConfig], Any]


@dataclass(frozen=True)
class Proof:
    """Looks at two training files that differ in one key.

    look     what is compared
    value    of the key, in the one
    other    in the other; None leaves it out
    beside   places of other keys, with their values in both
    refused  one of the two files is: the refusal is the difference
    """

    look: Look
    value: Any
    other: Any = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    refused: bool = False


def read(_: Room, config: TrainingConfig) -> Any:
    """The cases on both sides, with where their images and references lie."""
    return [
        [
            (
                case.name,
                case.person,
                sorted((name, str(path)) for name, path in case.images.items()),
                str(case.reference),
                sorted(case.labels.items()),
            )
            for case in side
        ]
        for side in divided(config)
    ]


def prepared(_: Room, config: TrainingConfig) -> Any:
    """Images and references as the net sees them."""
    return [(_bits(exam.image), _bits(exam.labels)) for exam in load(divided(config)[0], config)]


def sampled(_: Room, config: TrainingConfig) -> Any:
    """Some training crops."""
    exams = load(divided(config)[0], config)
    return [tuple(map(_bits, crop(exams, config, number))) for number in range(8)]


def begun(_: Room, config: TrainingConfig) -> Any:
    """The net before its first step."""
    return _weights(State.fresh(config).net.state_dict())


def answered(_: Room, config: TrainingConfig) -> Any:
    """What the net says of an image, before its first step."""
    torch.manual_seed(1)
    net = make_net(config).eval()
    with torch.inference_mode():
        return _bits(net(torch.ones(1, net.channels, *config.patch)))


def trained(room: Room, config: TrainingConfig) -> Any:
    """The net after the last step, and how far it came."""
    folder, _ = _run(room, config)
    saved = read_tensors(folder / "checkpoint.pt")
    return saved["step"], _weights(saved["net"])


def chosen(room: Room, config: TrainingConfig) -> Any:
    """The weights that are to be exported."""
    return _weights(read_tensors(_run(room, config)[0] / "best.pt"))


def judged(room: Room, config: TrainingConfig) -> Any:
    """The figures of the validations, by step."""
    return [(step, figure) for step, _, figure in _run(room, config)[1].history]


def kept(room: Room, config: TrainingConfig) -> Any:
    """The steps that a kill would not lose, after each step."""
    found: list[int] = []
    folder = room.fresh()

    def look(_: Progress) -> None:
        checkpoint = folder / "checkpoint.pt"
        found.append(int(read_tensors(checkpoint)["step"]) if checkpoint.exists() else 0)

    run_training(config, folder, look, lambda: False)
    return found


def exported(_: Room, config: TrainingConfig) -> Any:
    """What the net that is shipped says of an image."""
    torch.manual_seed(1)
    exams = load(divided(config)[1], config)
    with workers(1) as pool:
        net = answering(make_net(config).eval(), exams, config, pool).net
    with torch.inference_mode():
        return _bits(net(exams[0].image[None]))


def told(_: Room, config: TrainingConfig) -> Any:
    """What a card says of the training."""
    learning, judging = divided(config)
    outcome, answer = Outcome(True, 1, 0.5, 1, 60.0, ((1, 1.0, 0.5),)), Answering(make_net(config))
    report = training_report(config, learning, judging, outcome, answer, ())
    del report["training"]["config_digest"]  # of all keys: it would prove anything
    return report


def computed_by(_: Room, config: TrainingConfig) -> Any:
    """What computes."""
    device = find_device(config.device)
    return str(device.place), device.half


def left(room: Room, config: TrainingConfig) -> Any:
    """What the run folder holds."""
    return sorted(path.name for path in _run(room, config)[0].iterdir())


def named(room: Room, config: TrainingConfig) -> Any:
    """The folder of the run, where none is named."""
    return settled(room.folder / "train.yaml", None, None)[1]


def taken(_: Room, config: TrainingConfig) -> Any:
    """Nothing but that the file is read."""
    return config.name


def in_cache(room: Room, config: TrainingConfig) -> Any:
    """How many prepared cases the cache holds."""
    if config.data.cache is None:
        return 0
    shutil.rmtree(config.data.cache, ignore_errors=True)
    load(divided(config)[0], config)
    return len(list(config.data.cache.glob("*")))


def _run(room: Room, config: TrainingConfig) -> tuple[Path, Outcome]:
    folder = room.fresh()
    return folder, run_training(config, folder, lambda _: None, lambda: False)


def _bits(tensor: torch.Tensor) -> Any:
    return tuple(tensor.shape), hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def _weights(state: Mapping[str, torch.Tensor]) -> Any:
    return {name: _bits(value) for name, value in state.items()}


OF_NNUNET = {"data.kind": "nnunet", "data.folder": "nnunet"}
CLASSIFIES = {
    "data.classes": ["dark", "light"],
    "data.tasks": {"finding": ["dark", "light"]},
    "data.reference": None,
    "net": {"name": "resnet18-3d", "parameters": {"width": 2, "stem": "small", "blocks": [1, 1, 1, 1]}},
    "loss": "cross-entropy",
    "schedule.batch": 2,
    "data.validation_share": 0.6,
}
FLAT = {"net": {"name": "unet-16", "parameters": {"filters": 2, "depth": 1}}, "patch": [8, 8]}
ENCODER = {
    "net": {"name": "resnet18-unet", "parameters": {"width": 2, "blocks": [1, 1, 1, 1], "decoder": [2, 2, 2, 2, 2]}},
    "patch": [32, 32],
}
FOLDS = {"data.split_file": "folds.json", "data.fold": 0}
SHARP = {"augment.rotate_degrees": 45.0}
UPDATES = {"schedule.steps": 3, "schedule.rate": 0.01}

PROOFS: Mapping[str, Proof] = {
    "name": Proof(named, "one", "other"),
    "seed": Proof(begun, 1, 2),
    "threads": Proof(told, 1, 2),
    "data.folder": Proof(read, "data", "copy"),
    "data.name": Proof(told, "one", "other"),
    "data.licence": Proof(told, "one", "other"),
    "data.source": Proof(told, "one", "other"),
    "data.labels": Proof(told, "one", "other"),
    "data.classes": Proof(begun, CLASSES, ["background", "ball"]),
    "data.table": Proof(read, "cases.csv", "fewer.csv"),
    "data.case_column": Proof(read, "name", "twin"),
    "data.person_column": Proof(read, "person", "family"),
    "data.split_column": Proof(read, "split", "use"),
    "data.train": Proof(read, "train", "val"),
    "data.image": Proof(read, "images/{name}.nii.gz", "images/{twin}.nii.gz"),
    "data.reference": Proof(read, "labels/{name}.nii.gz", "labels/{twin}.nii.gz"),
    "data.validation_share": Proof(read, 0.2, 0.6),
    "data.kind": Proof(read, "table", "nnunet", {"data.folder": "nnunet"}),
    "data.images": Proof(read, {"t1": "images/{name}.nii.gz"}),
    "data.tasks": Proof(read, {"finding": ["dark", "light"]}),
    "data.leave_out": Proof(read, ["c0"]),
    "data.merge": Proof(prepared, {"ball": [2], "shell": [1]}),
    "data.persons": Proof(read, "persons.csv", beside=OF_NNUNET),
    "data.person_pattern": Proof(read, "([0-9])$", beside=OF_NNUNET),
    "data.split_file": Proof(read, "folds.json", "folds2.json", FOLDS),
    "data.split_sha256": Proof(taken, "0" * 64, beside=FOLDS, refused=True),
    "data.fold": Proof(read, 0, 1, FOLDS),
    "data.cache": Proof(in_cache, "cache"),
    "data.cache_gib": Proof(in_cache, 1.0, 1e-5, {"data.cache": "cache"}),
    "recipe": Proof(prepared, {"steps": []}, {"steps": [{"name": "normalise"}]}),
    "net.name": Proof(begun, "monet-3d", "unet", {"net.parameters": {}, "patch": [8, 8, 8]}),
    "net.parameters": Proof(begun, {"features": [2, 4]}, {"features": [2, 6]}),
    "net.convert": Proof(answered, "acs", "i3d", {**FLAT, "patch": [8, 8, 8]}),
    "net.start": Proof(begun, "unet.safetensors"),
    "net.start_sha256": Proof(taken, "0" * 64, beside={"net.start": "unet.safetensors"}, refused=True),
    "net.start_into": Proof(begun, "encoder", beside={**ENCODER, "net.start": "classifier.safetensors"}, refused=True),
    "net.start_head": Proof(begun, "fresh", "strict", {"net.start": "unet.safetensors"}),
    "patch": Proof(sampled, [8, 8, 8], [8, 8, 4]),
    "loss": Proof(trained, "dice", "focal"),
    "schedule.steps": Proof(trained, 1, 2),
    "schedule.batch": Proof(trained, 1, 2),
    "schedule.rate": Proof(trained, 0.01, 0.1),
    "schedule.warmup": Proof(trained, 0, 1, {"schedule.steps": 2}),
    "schedule.decay": Proof(trained, 0.0, 1.0, {"schedule.steps": 2}),
    "schedule.weight_decay": Proof(trained, 0.0, 0.5),
    "schedule.largest_gradient": Proof(trained, 5.0, 1e-8),
    "schedule.average": Proof(chosen, 0.0, 0.9, UPDATES),
    "schedule.validate_every": Proof(judged, 1, 2, UPDATES),
    "schedule.save_every": Proof(kept, 1, 2, UPDATES),
    "schedule.patience": Proof(
        judged, 1, 5, {**UPDATES, "schedule.steps": 5, "schedule.validate_every": 1, "schedule.rate": 1e-9}
    ),
    "schedule.restarts": Proof(trained, [1], beside={**UPDATES, "schedule.decay": 1.0}),
    "augment.mirror_axis": Proof(sampled, 2),
    "augment.rotate_degrees": Proof(sampled, 20.0),
    "augment.scale": Proof(sampled, 0.2),
    "augment.shift_voxels": Proof(sampled, 3.0),
    "augment.bend_voxels": Proof(sampled, 1.0),
    "augment.contrast": Proof(sampled, 0.2),
    "augment.brightness": Proof(sampled, 0.2),
    "augment.gamma": Proof(sampled, 0.3),
    "augment.noise": Proof(sampled, 0.1),
    "augment.coarse_voxels": Proof(sampled, 2.0),
    "augment.sharp_share": Proof(sampled, 1.0, 0.5, SHARP),
    "augment.sharp_from": Proof(sampled, 1, 2, {**SHARP, "augment.sharp_share": 1.0, "schedule.steps": 4}),
    "sampling.foreground": Proof(sampled, 1.0, beside={"patch": [4, 4, 4]}),
    "sampling.balanced": Proof(sampled, True, beside=CLASSIFIES),
    "synthesis.painted": Proof(sampled, 1.0),
    "synthesis.outside": Proof(sampled, 2, 6, {"synthesis.painted": 1.0}),
    "synthesis.toned": Proof(sampled, 1.0),
    "synthesis.lesions": Proof(sampled, 4),
    "synthesis.lesion_voxels": Proof(sampled, 2.0, 6.0, {"synthesis.lesions": 8}),
    "synthesis.bias": Proof(sampled, 0.5),
    "synthesis.blur_voxels": Proof(sampled, 2.0),
    "synthesis.thick_voxels": Proof(sampled, 4.0),
    "synthesis.grain": Proof(sampled, 0.2),
    "judged_by": Proof(judged, "auc", "balanced-accuracy", {**CLASSIFIES, "seed": 2, "schedule.rate": 1e-9}),
    "export.symmetric_axis": Proof(exported, 2),
    "export.unbiased_volumes": Proof(exported, True),
    "data.archive": Proof(taken, "somewhere", refused=True),  # with a table; what they do stands in
    "data.query": Proof(taken, {"modality": "MR", "segments": {"ball": [1]}}, refused=True),  # test_train_from_archive
    "data.key_file": Proof(taken, "key", refused=True),
    "device.kind": Proof(computed_by, "cuda", "cpu", refused=True),
    "device.precision": Proof(trained, "bf16"),
    "logs": Proof(left, "tensorboard"),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """Noisy balls in shells, as a table, as its copy and as nnU-Net lays it out; folds, and weights to begin with."""
    folder = tmp_path_factory.mktemp("options")
    random = np.random.default_rng(3)
    lines = ["name,twin,person,family,split,use,finding"]
    for number in range(CASES):
        distance = np.linalg.norm(np.stack(np.indices((SIDE, SIDE, SIDE)), -1) - random.uniform(4, 6, 3), axis=-1)
        labels = np.where(distance < 2, 1, np.where(distance < 3.5, 2, 0)).astype(np.uint8)
        values = (np.choose(labels, (0.0, 9.0, 5.0)) + random.normal(0, 0.5, labels.shape)).astype(np.float32)
        for place in ("data", "copy", "nnunet"):
            _write(folder / place / "images" / f"c{number}.nii.gz", values)
            _write(folder / place / "labels" / f"c{number}.nii.gz", labels)
        _write(folder / "nnunet" / "imagesTr" / f"c{number}_0000.nii.gz", values)
        _write(folder / "nnunet" / "labelsTr" / f"c{number}.nii.gz", labels)
        use, finding = ("train" if number % 2 else "val"), ("light" if number % 2 else "dark")
        lines.append(f"c{number},c{CASES - 1 - number},p{number},f{number // 2},{_split(number)},{use},{finding}")
    for place in ("data", "copy", "nnunet"):
        (folder / place / "cases.csv").write_text("\n".join(lines) + "\n")
        (folder / place / "fewer.csv").write_text("\n".join(lines[:5]) + "\n")
    _lay_out(folder)
    return Room(folder)


def _split(number: int) -> str:
    return "train" if number < CASES - 3 else "val"


def _write(file: Path, values: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(file)


def _lay_out(folder: Path) -> None:
    """What nnU-Net needs beside the images; files of folds; weights."""
    described = {
        "channel_names": {"0": "MRI"},
        "labels": {name: label for label, name in enumerate(CLASSES)},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "nnunet" / "dataset.json").write_text(json.dumps(described))
    persons = ["name,person", *(f"c{number},p{number // 2}" for number in range(CASES))]
    (folder / "nnunet" / "persons.csv").write_text("\n".join(persons) + "\n")
    names = [f"c{number}" for number in range(CASES) if _split(number) == "train"]
    folds = [{"train": names[k:] + names[: k - 1], "val": names[k - 1 : k]} for k in (1, 2, 3)]
    (folder / "folds.json").write_text(json.dumps(folds[:2]))
    (folder / "folds2.json").write_text(json.dumps(folds[2:]))
    torch.manual_seed(9)
    save_file(build("unet", channels=1, classes=3, features=(2, 4)).state_dict(), folder / "unet.safetensors")
    encoder = build("resnet18-unet", channels=1, classes=3, **ENCODER["net"]["parameters"]).encoder.state_dict()
    save_file(encoder, folder / "classifier.safetensors")


def _values(changes: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "options",
        "seed": 1,
        "threads": 1,
        "data": {
            "folder": "data",
            "name": "Balls",
            "licence": "CC0-1.0",
            "source": "made by the tests",
            "labels": "exact",
            "classes": CLASSES,
            "validation_share": 0.4,
        },
        "recipe": {"steps": [{"name": "normalise"}]},
        "net": {"name": "unet", "parameters": {"features": [2, 4]}},
        "patch": [8, 8, 8],
        "schedule": {"steps": 1, "batch": 1, "rate": 0.01},
    }
    for place, value in changes.items():
        part = values
        *way, last = place.split(".")
        for key in way:
            part = part.setdefault(key, {})
        if value is None and last != "reference":
            part.pop(last, None)
        else:
            part[last] = value
    if "fold" in values["data"]:
        del values["data"]["validation_share"]
    return copy.deepcopy(values)


def _look(room: Room, proof: Proof, place: str, value: Any) -> Any:
    try:
        return proof.look(room, room.config(_values({**proof.beside, place: value})))
    except ResidencyError as refused:
        if not proof.refused:
            raise
        return str(refused)


def test_every_key_has_its_proof() -> None:
    places = [key.place for key in keys_of(TrainingConfig)]
    unproved, gone = set(places) - PROOFS.keys(), PROOFS.keys() - set(places)
    assert not unproved, "say in PROOFS what each of them changes"
    assert not gone


@pytest.mark.parametrize("place", PROOFS)
def test_a_key_changes_what_is_made(room: Room, place: str) -> None:
    proof = PROOFS[place]
    assert _look(room, proof, place, proof.value) != _look(room, proof, place, proof.other)


@pytest.mark.slow
@pytest.mark.parametrize("look", sorted({proof.look.__name__ for proof in PROOFS.values()} - {"in_cache"}))
def test_what_is_looked_at_is_the_same_for_the_same_file(room: Room, look: str) -> None:
    """Else a difference would prove nothing."""
    place, proof = next((place, proof) for place, proof in PROOFS.items() if proof.look.__name__ == look)
    config = room.config(_values({**proof.beside, place: proof.other if proof.refused else proof.value}))
    assert proof.look(room, config) == proof.look(room, config)
