"""A results folder of nnU-Net v2 as a package folder: graph, preparation, and a card with what is known filled in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from residency.errors import ConfigError, InputError, UsageError
from residency.nets import build
from residency.nets.checkpoint import read_checkpoint
from residency.nets.cost import without_memory
from residency.nets.net import Net
from residency.nets.sides import fit, in_words
from residency.train.export import INPUT, OUTPUT, Parity, export_graph, prove_parity
from residency.train.importing.averaged import Averaged
from residency.train.importing.draft import card_text, completed, missing
from residency.train.importing.nnunet_card import draft_card
from residency.train.importing.plans import Planned, read_plans
from residency.train.importing.reading import plain_text, read_json
from residency.train.importing.state import fitting
from residency.train.importing.written import must_be_new, write_files

_FOLD = re.compile(r"[A-Za-z0-9_-]{1,32}")
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")


@dataclass(frozen=True)
class Fold:
    """One trained network of the folder.

    mirrored  axes of the patch along which its training was mirrored
    """

    name: str
    file: Path
    digest: str
    trainer: str
    mirrored: tuple[int, ...]
    net: Net


@dataclass(frozen=True)
class Found:
    """What a results folder holds: the plan of its configuration, and the folds asked for, each with its weights."""

    planned: Planned
    folds: tuple[Fold, ...]
    there: tuple[str, ...]


def find(folder: Path, folds: Sequence[str] = ()) -> Found:
    """Read a folder TRAINER__PLANS__CONFIGURATION: plans.json, dataset.json, fold_K/checkpoint_final.pth (or _best).

    folds  by name, "0" or "all"; without, the only one that is there

    Raises UsageError where folder or fold is missing or to be chosen, InputError for plans that are not imported, and
    TrainingError for weights that cannot be read or do not fit them.
    """
    names = sorted(one.name.removeprefix("fold_") for one in folder.glob("fold_*/"))
    there = [name for name in names if _FOLD.fullmatch(name) and _checkpoint(folder / f"fold_{name}")]
    if not there:
        raise UsageError(f"{folder} holds no fold_K/{_CHECKPOINTS[0]}: give the folder TRAINER__PLANS__CONFIGURATION")
    if not folds and len(there) > 1:
        raise UsageError(f"{folder} holds the folds {', '.join(there)}: name one, or several to average, with --fold")
    missing = [fold for fold in folds if fold not in there]
    if missing or len(set(folds)) < len(folds):
        raise UsageError(f"folds are named once each, out of {', '.join(there)}; got {', '.join(folds)}")
    plans_file = folder / "plans.json"
    plans = read_json(plans_file if plans_file.exists() else folder / "nnUNetPlans.json")
    dataset = read_json(folder / "dataset.json")
    read: list[Fold] = []
    planned: Planned | None = None
    for name in folds or there:
        (file,) = _checkpoint(folder / f"fold_{name}")
        held = read_checkpoint(file)
        told = held.get("init_args")
        configuration = told.get("configuration") if isinstance(told, dict) else None
        if not isinstance(configuration, str) or not isinstance(held.get("network_weights"), dict):
            raise InputError(f"{file} names no configuration, or holds no network_weights: no checkpoint of nnU-Net v2")
        if planned is not None and planned.configuration != configuration:
            raise InputError(f"{file} is of configuration '{configuration[:50]}', other folds of another")
        planned = planned or read_plans(plans, dataset, configuration)
        net = _with_weights(planned, held["network_weights"], file)
        axes = held.get("inference_allowed_mirroring_axes") or ()
        if not isinstance(axes, (tuple, list)) or any(axis not in (0, 1, 2) for axis in axes):
            raise InputError(f"{file}: inference_allowed_mirroring_axes are no axes of a volume")
        trainer = plain_text(held.get("trainer_name", ""), 100)
        read.append(Fold(name, file, _digest(file), trainer, tuple(int(axis) for axis in axes), net.eval()))
    assert planned is not None
    return Found(planned, tuple(read), tuple(there))


@dataclass(frozen=True)
class Written:
    """What was written: how well two engines agree with the nets, and what a person must still say in card.yaml."""

    parities: tuple[Parity, ...]
    lacking: tuple[str, ...]
    passes: int


def write(
    found: Found,
    folder: Path,
    *,
    letters: str | None = None,
    mirror: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Written:
    """Write graph.onnx, card.yaml and training.json into a new or empty folder.

    letters  how the arrays lay that nnU-Net read (slice, row, column), such as "SPL"; needed unless its reader turns
             images, since nnU-Net takes them as they are stored
    mirror   average over mirror images too, along the axes that the training allows: 2 ** axes times the work
    given    fields of a card that a person gives

    Raises UsageError, CardError for fields that are wrong, and TrainingError where the graph does not answer as the
    net; nothing is written then.
    """
    planned = found.planned
    letters = planned.orientation or letters
    if letters is None:
        raise UsageError(
            "the plans do not tell how the training images lay: nnU-Net takes them as they are stored. Give "
            "--orientation: where the stored slices, rows and columns lead, such as SPL for axial images (LPS NIfTI)"
        )
    must_be_new(folder)
    axes = found.folds[0].mirrored if mirror else ()
    if mirror and not axes:
        raise UsageError(f"--mirror: fold {found.folds[0].name} was trained without mirror images")
    passes = len(found.folds) * 2 ** len(axes)
    averaged = {"folds": [fold.name for fold in found.folds], "mirrored_axes": list(axes), "passes_a_window": passes}
    card = completed(draft_card(planned, planned.turned(letters), averaged), given or {})
    lacking = missing(card)
    net = Averaged([fold.net for fold in found.folds], axes).eval()
    graph = export_graph(net)
    generator = np.random.default_rng(1)
    image = generator.standard_normal((1, len(planned.channels), *planned.window), dtype=np.float32)
    parities = prove_parity(net, graph, [image])
    told = {
        "tensors": {"input": INPUT, "output": OUTPUT},
        "classes": list(planned.classes),
        "net": {"name": planned.net, "parameters": planned.parameters},
        "imported": described(found) | averaged,
        "parity": [parity.plain() for parity in parities],
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
    }
    title = f"Imported from nnU-Net v2: {planned.dataset}, {planned.configuration}."
    made = {"graph.onnx": graph, "training.json": (json.dumps(told, indent=1) + "\n").encode()}
    write_files(folder, made | {"card.yaml": card_text(title, card, lacking, planned.notes).encode()})
    return Written(parities, lacking, passes)


def described(found: Found) -> dict[str, Any]:
    """What was found, as plain data: for the command line, and kept beside the graph."""
    planned = found.planned
    return {
        "from": "nnU-Net v2",
        "dataset": planned.dataset,
        "plans": planned.plans,
        "configuration": planned.configuration,
        "net": planned.net,
        "parameters": sum(value.numel() for value in found.folds[0].net.parameters()),
        "channels": list(planned.channels),
        "classes": list(planned.classes),
        "overlapping": planned.regions,
        "window": list(planned.window),
        "spacing_mm": list(planned.spacing),
        "orientation": planned.orientation,
        "folds_there": list(found.there),
        "folds": [
            {"name": fold.name, "trainer": fold.trainer, "sha256": fold.digest, "may_mirror": list(fold.mirrored)}
            for fold in found.folds
        ],
        "differences": list(planned.notes),
    }


def _with_weights(planned: Planned, weights: Mapping[Any, object], file: Path) -> Net:
    """The net of the plans. No memory is asked for before the weights have its shapes: plans may claim any."""
    settings = {"channels": len(planned.channels), "classes": len(planned.classes), **planned.parameters}
    try:
        without_values = without_memory(partial(build, planned.net), **settings)
    except ConfigError as error:
        raise InputError(f"plans, configuration '{planned.configuration}': {error}") from None
    if not fit(planned.window, without_values.sides):
        raise InputError(
            f"plans, configuration '{planned.configuration}': the net takes {in_words(without_values.sides)}, and "
            f"'patch_size' is {' x '.join(map(str, planned.window))}"
        )
    held = fitting(without_values, planned.net, weights, file)
    net = build(planned.net, **settings)
    net.load_state_dict(held, strict=True)
    return net


def _checkpoint(folder: Path) -> list[Path]:
    """The fold's checkpoint, the final one before the best; none where there is neither."""
    return [folder / name for name in _CHECKPOINTS if (folder / name).is_file()][:1]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
