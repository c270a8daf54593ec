"""Build a package from a folder: the card as people wrote it, what training measured, the graph, the golden case.

The same files give the same bytes and so the same digest, on every machine.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from residency.card import Card, parse_card
from residency.errors import CardError, ConfigError, PackageError
from residency.files.strict_yaml import read_yaml
from residency.models.check import check_package
from residency.models.folder import read_bounded
from residency.models.graph import count_parameters
from residency.package import LARGEST_PAYLOAD, ModelPackage, Payload, build_package

CARD_FILE, GRAPH_FILE, TRAINING_FILE, EVALUATION_FILE = "card.yaml", "graph.onnx", "training.json", "evaluation.json"

_ONNX, _NIFTI = "application/onnx", "application/x-nifti+gzip"
_FILES = {
    GRAPH_FILE: ("graph", _ONNX),
    "variant-bf16.onnx": ("variant/bf16", _ONNX),
    "variant-int8.onnx": ("variant/int8", _ONNX),
    "golden-input.nii.gz": ("golden/input", _NIFTI),
    **{f"golden-input-{k}.nii.gz": ("golden/input", _NIFTI) for k in range(2, 17)},
    "golden-expected.nii.gz": ("golden/expected", _NIFTI),
    "golden-expected.json": ("golden/expected", "application/json"),
    "report.html": ("report", "text/html"),
    "report.pdf": ("report", "application/pdf"),
    "licence.txt": ("licence", "text/plain"),
    "licence-golden.txt": ("licence", "text/plain"),
}
"""What the files of a package folder are, by name. The card, graph, golden case and licence.txt must be there; what is
expected is a label map, or for a classification JSON with the probability of each class. The golden images of further
inputs are numbered from 2.
"""
_NEEDED = (GRAPH_FILE, "golden-input.nii.gz", "licence.txt")
_EXPECTED = ("golden-expected.nii.gz", "golden-expected.json")


def build(folder: Path) -> ModelPackage:
    """The package of a folder, checked as it will be checked when it comes out of an archive.

    card.yaml        the card; `training`, `statistics`, `tiling`, `evaluation`, `parameters` and the inputs'
                     recipes may be left out of it, they are then taken from the files below and the graph
    training.json    written by training: `training`, `input_statistics`, `tiling`, `recipe`
    evaluation.json  `evaluation`: a list of figures as in the card

    Raises ConfigError, CardError, PackageError, GraphError, each naming file or field.
    """
    payloads = {
        name: Payload(role, name, media_type, read_bounded(folder / name, LARGEST_PAYLOAD))
        for name, (role, media_type) in _FILES.items()
        if (folder / name).exists() or name in _NEEDED
    }
    if not any(name in payloads for name in _EXPECTED):
        raise PackageError(f"{folder} holds no expected result of the golden case: neither {' nor '.join(_EXPECTED)}")
    card = parse_card(card_data(folder, payloads[GRAPH_FILE].data))
    golden_images(card)
    package = build_package(card, payloads.values())
    check_package(package)
    return package


def golden_images(card: Card) -> dict[str, str]:
    """File of the golden case by input, in the order of inputs.

    Raises CardError where an input has none, or shares it: no site could admit the package, or see inputs exchanged.
    A card that was signed like that is still read.
    """
    first, *others = (one.name for one in card.inputs)
    lacking = [name for name in others if name not in card.golden.more]
    if lacking:
        asked = ", ".join(f"{name}: golden-input-{k}.nii.gz" for k, name in enumerate(others, 2))
        raise CardError(
            f"the golden case has no image for input '{lacking[0]}', so that no site could admit the model: say "
            f"golden.more: {{{asked}}} in {CARD_FILE}, and put the images beside it"
        )
    names = {first: card.golden.input, **{name: card.golden.more[name] for name in others}}
    if len(set(names.values())) < len(names):
        raise CardError(
            f"two inputs share an image of the golden case, which would not show inputs exchanged: give each its own "
            f"under golden.more in {CARD_FILE}; it says {', '.join(names.values())}"
        )
    return names


def card_data(folder: Path, graph: bytes) -> dict[str, Any]:
    """The card of a folder as plain data, completed by what was measured. Raises ConfigError."""
    card: dict[str, Any] = _dated(read_yaml(read_bounded(folder / CARD_FILE, LARGEST_PAYLOAD), str(folder / CARD_FILE)))
    measured = _json(folder / TRAINING_FILE)
    for field, source in (("training", "training"), ("statistics", "input_statistics"), ("tiling", "tiling")):
        if source in measured:
            card.setdefault(field, measured[source])
    card.setdefault("evaluation", _json(folder / EVALUATION_FILE).get("evaluation", []))
    card.setdefault("parameters", count_parameters(graph))
    inputs = card.get("inputs")
    if "recipe" in measured and isinstance(inputs, list):
        for one in inputs:
            if isinstance(one, dict) and one.setdefault("recipe", measured["recipe"]) != measured["recipe"]:
                raise ConfigError(
                    f"{folder / CARD_FILE}: the recipe of input '{one.get('name')}' is not the one in {TRAINING_FILE}: "
                    "the network would see other images than it was trained on; leave it out here"
                )
    return card


def _dated(value: Any) -> Any:
    """YAML's times as ISO text, which is what the card's schema reads."""
    if isinstance(value, dict):
        return {key: _dated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dated(item) for item in value]
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).isoformat()
    return value.isoformat() if isinstance(value, dt.date) else value


def _json(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bounded(path, LARGEST_PAYLOAD))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no keys and values")
    return found
