"""A MONAI bundle as a package folder: graph, preparation, decision, and a card with what is known filled in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from residency.errors import GraphError, InputError, ResidencyError, UsageError
from residency.files.monai import OWN
from residency.files.package import from_files
from residency.files.strict_yaml import read_yaml
from residency.models import check_package, write_folder
from residency.models.graph import check_ports
from residency.package import LARGEST_MANIFEST, LARGEST_PAYLOAD, MANIFEST_FILE, ModelPackage, parse_manifest
from residency.train.export import INPUT, OUTPUT, Parity, export_graph, prove_engines, prove_parity
from residency.train.importing import monai_steps as steps
from residency.train.importing.bundle import (
    CONFIGS,
    GRAPHS,
    LICENCES,
    METADATA,
    SCRIPTS,
    STATES,
    Bundle,
    open_bundle,
)
from residency.train.importing.draft import card_text, completed, missing
from residency.train.importing.monai_card import Metadata, draft_card, licence_of, read_metadata
from residency.train.importing.monai_config import Config
from residency.train.importing.monai_net import FromMonai, build_network
from residency.train.importing.reading import must_be_seen_at_once, parse_json
from residency.train.importing.written import must_be_new, write_files

_TRIED_WITHOUT_WINDOW = (64, 64, 64)


@dataclass(frozen=True)
class Imported:
    """What a bundle gave.

    card     the draft: what is known, completed by what a person gave
    lacking  what a person must still say, one line a part of the card
    notes    where we differ from the bundle, one sentence each
    """

    card: Mapping[str, Any]
    graph: bytes
    names: tuple[str, str]
    parities: tuple[Parity, ...]
    lacking: tuple[str, ...]
    notes: tuple[str, ...]
    network: str
    source: Mapping[str, str]
    licence: str | None = field(default=None, repr=False)
    package: ModelPackage | None = field(default=None, repr=False)


def read_bundle(place: Path, *, given: Mapping[str, Any] | None = None, letters: str | None = None) -> Imported:
    """Read a bundle's folder or zip: its network, proven on two engines, and a draft of its card.

    given    fields of a card, which win over the bundle's
    letters  how the arrays lay that the network was trained on, needed where the bundle names no Orientation

    Raises UsageError, InputError, TrainingError, GraphError or CardError, in one line, naming file and key.
    """
    with open_bundle(place) as bundle:
        package = _own(bundle)
        if package is not None:
            return _of_package(package, bundle, given)
        read = read_metadata(parse_json(bundle.read(METADATA), f"{place}: {METADATA}"), bundle.name)
        text = next((bundle.read(name).decode("utf-8", "replace") for name in LICENCES if bundle.has(name)), None)
        card = draft_card(read, licence_of(text) if text else None)
        config = _config(bundle)
        notes = _contract(card, read, config, letters)
        card = completed(card, given or {})
        window = tuple(card.get("tiling", {}).get("window", ())) or _TRIED_WITHOUT_WINDOW
        must_be_seen_at_once(window, len(read.channels), str(place))
        graph, names, parities, network, file = _network(bundle, config, read, window)
        source = {"bundle": bundle.name, "file": file, "metadata_sha256": _sha256(bundle.read(METADATA))}
    for kind, name in (("inputs", names[0]), ("outputs", names[1])):
        for one in card[kind]:
            one["tensor"] = name
    card["parameters"] = check_ports(graph, len(read.channels), len(read.classes))
    return Imported(card, graph, names, parities, missing(card), notes, network, source, text)


def write_bundle(found: Imported, folder: Path) -> None:
    """Write graph.onnx, card.yaml, training.json and, where the bundle has one, licence.txt into a new or empty folder.

    Raises UsageError, or TrainingError where there is no room.
    """
    must_be_new(folder)
    told = {
        "imported": {"from": "MONAI bundle", **found.source, "network": found.network},
        "tensors": {"input": found.names[0], "output": found.names[1]},
        "parity": [parity.plain() for parity in found.parities],
        "graph_sha256": _sha256(found.graph),
    }
    title = f"Imported from the MONAI bundle {found.source['bundle']}."
    card = {"card.yaml": card_text(title, found.card, found.lacking, found.notes).encode()}
    if found.package is not None:
        write_files(folder, card)
        write_folder(folder, found.package)
        return
    licence = {"licence.txt": found.licence.encode()} if found.licence else {}
    made = {"graph.onnx": found.graph, "training.json": (json.dumps(told, indent=1) + "\n").encode()}
    write_files(folder, made | licence | card)


def _own(bundle: Bundle) -> ModelPackage | None:
    """The package that lies in a bundle of our own making, every part of it compared with its digest; else None."""
    name = f"{OWN}/{MANIFEST_FILE}"
    if not bundle.has(name):
        return None
    files = {MANIFEST_FILE: bundle.read(name, LARGEST_MANIFEST)}
    for entry in parse_manifest(files[MANIFEST_FILE]).payloads:
        inside = GRAPHS[0] if entry.role == "graph" else f"{OWN}/{entry.name}"
        files[entry.name] = bundle.read(inside, min(entry.length, LARGEST_PAYLOAD))
    package = from_files(files)
    check_package(package)
    return package


def _of_package(package: ModelPackage, bundle: Bundle, given: Mapping[str, Any] | None) -> Imported:
    if given:
        raise UsageError(
            f"{bundle.place} holds a whole package of ours, whose card is not written anew: import it without --card, "
            "and change the card that is then there"
        )
    graph = package.with_role("graph")
    card = json.loads(package.card.model_dump_json())
    return Imported(
        card=card,
        graph=graph.data,
        names=(card["inputs"][0]["tensor"], card["outputs"][0]["tensor"]),
        parities=(),
        lacking=(),
        notes=(f"The bundle was written by Residency: its package {package.digest} is taken whole.",),
        network="an ONNX graph",
        source={"bundle": bundle.name, "file": GRAPHS[0], "package": package.digest},
        package=package,
    )


def _config(bundle: Bundle) -> Config | None:
    name = bundle.first(CONFIGS)
    if name is None:
        return None
    where = f"{bundle.place}: {name}"
    data = bundle.read(name)
    try:
        return Config(parse_json(data, where) if name.endswith(".json") else read_yaml(data, where), where)
    except ResidencyError as error:
        raise InputError(str(error)) from None


def _contract(card: dict[str, Any], read: Metadata, config: Config | None, letters: str | None) -> tuple[str, ...]:
    """Inputs, outputs and tiling into the card; where we differ."""
    notes: list[str] = []
    recipe: list[dict[str, Any]] | None = None
    decided: dict[str, Any] = {}
    tiling, told = steps.tiling(None, read.shape, METADATA)
    if config is None:
        notes.append("The bundle has no configs/inference: preparation and decision are to be given.")
    else:
        prepared = steps.preparation(
            config.transforms(("preprocessing", "pre_transforms", "transforms")), len(read.channels), config.where
        )
        if prepared.orientation is None and letters is None:
            raise UsageError(
                "the bundle names no Orientation: its network takes arrays as the files lie. Give --orientation: where "
                "the first, second and third axis of the training files led, such as RAS"
            )
        first = ("orient", {"letters": prepared.orientation or letters})
        recipe = [{"name": name, "parameters": dict(values)} for name, values in (first, *prepared.steps)]
        decided, more = steps.decision(
            config.transforms(("postprocessing", "post_transforms")), len(read.classes), config.where
        )
        tiling, told = steps.tiling(config.described(("inferer",)), read.shape, config.where)
        notes += [*prepared.notes, *more]
    card["inputs"] = [_input(read, number, recipe) for number in range(len(read.channels))]
    card["outputs"] = [_output(read, decided)]
    if tiling:
        card["tiling"] = tiling
    return (*notes, *told)


def _input(read: Metadata, number: int, recipe: list[dict[str, Any]] | None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": f"channel{number}", "tensor": read.input, "channel": read.channels[number]}
    if len(read.modalities) == 1:
        made["modalities"] = list(read.modalities)
    if read.unit:
        made["unit"] = read.unit
    return made | ({"recipe": {"steps": recipe}} if recipe is not None else {})


def _output(read: Metadata, decided: Mapping[str, Any]) -> dict[str, Any]:
    rule = decided.get("rule") or ("argmax" if read.kind == "classification" else None)
    activation = decided.get("activation") or ("softmax" if rule == "argmax" else "none" if rule else None)
    made: dict[str, Any] = {"name": "segments" if read.kind == "segmentation" else "classes", "tensor": read.output}
    made |= {"kind": read.kind, "classes": [{"index": n, "name": name} for n, name in enumerate(read.classes)]}
    known = {**decided, "rule": rule, "activation": activation}
    made["decision"] = {key: value for key, value in known.items() if value is not None}
    return made


def _network(
    bundle: Bundle, config: Config | None, read: Metadata, window: tuple[int, ...]
) -> tuple[bytes, tuple[str, str], tuple[Parity, ...], str, str]:
    """The graph, the names of its tensors, how far engines agree, what it is, the file that it came from."""
    image = np.random.default_rng(1).standard_normal((1, len(read.channels), *window), dtype=np.float32)
    name = bundle.first(GRAPHS)
    if name is not None:
        graph = bundle.read(name)
        names = _ports(graph)
        return graph, names, prove_engines(graph, image, names), "an ONNX graph", name
    name = bundle.first(STATES)
    if name is None and bundle.first(SCRIPTS):
        raise InputError(
            f"{bundle.place} holds its network as TorchScript ({SCRIPTS[0]}) alone: pickled code, which is not opened. "
            f"Export it to {GRAPHS[0]}, or add the state dict, {STATES[0]} or {STATES[1]}"
        )
    if name is None:
        raise InputError(f"{bundle.place} holds no network: neither {GRAPHS[0]} nor {', '.join(STATES)}")
    described = config.described(("network_def", "network", "net")) if config is not None else None
    if config is None or described is None:
        raise InputError(f"{bundle.place} says nowhere what network {name} is for: no 'network_def' in {CONFIGS[0]}")
    with bundle.file(name) as file:
        net = build_network(described, file, config.where)
    _must_match(net, read)
    graph = export_graph(net)
    return graph, (INPUT, OUTPUT), prove_parity(net, graph, [image]), described.kind, name


def _ports(graph: bytes) -> tuple[str, str]:
    """Names of the one input and the one output."""
    from onnx import ModelProto

    check_ports(graph)  # bounds first
    model = ModelProto.FromString(graph).graph
    constants = {tensor.name for tensor in model.initializer}
    inputs = [value.name for value in model.input if value.name not in constants]
    outputs = [value.name for value in model.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise GraphError(
            f"the graph has {len(inputs)} inputs and {len(outputs)} outputs; networks with one are imported"
        )
    return inputs[0], outputs[0]


def _must_match(net: FromMonai, read: Metadata) -> None:
    if net.channels != len(read.channels):
        raise InputError(
            f"{METADATA} says {len(read.channels)} channels, the configured network takes {net.channels}: one is wrong"
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(found: Imported) -> dict[str, Any]:
    """What was found, as plain data, for the command line."""
    card = found.card
    recipe = card["inputs"][0].get("recipe", {}).get("steps", [])
    return {
        "bundle": found.source["bundle"],
        "network": f"{found.network} ({found.source['file']})",
        "parameters": card["parameters"],
        "channels": [one.get("channel", one["name"]) for one in card["inputs"]],
        "classes": [one["name"] for one in card["outputs"][0]["classes"]],
        "window": list(card.get("tiling", {}).get("window", [])),
        "steps": [step["name"] for step in recipe],
        "decision": ", ".join(f"{key} {value}" for key, value in card["outputs"][0]["decision"].items()),
        "differences": list(found.notes),
        "to_fill_in": list(found.lacking),
    }
