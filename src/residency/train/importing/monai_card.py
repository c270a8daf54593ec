"""metadata.json of a MONAI bundle, as far as a card takes it over. Names are free text there and never become codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from residency.errors import InputError
from residency.train.importing.reading import asked, plain_text

_MODALITIES = ("CT", "MR", "US", "PT", "NM", "CR", "DX", "MG", "XA", "RG")
_UNITS = {"hounsfield": "HU"}
_KEPT: tuple[str, ...] = (
    "changelog",
    "copyright",
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
)
_KEPT += ("monai_version", "pytorch_version", "numpy_version", "required_packages_version", "optional_packages_version")
_REQUIRED: tuple[str, ...] = (
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "task",
    "description",
    "authors",
)
_REQUIRED += ("copyright", "network_data_format")
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?")
_LICENCES = (
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("BSD 3-Clause", "BSD-3-Clause"),
    ("Creative Commons Attribution 4.0", "CC-BY-4.0"),
)


@dataclass(frozen=True)
class Metadata:
    """What a bundle says of its network.

    input, output  names of the tensors
    channels       what each channel of the input shows
    classes        what each channel of the output is of
    shape          spatial shape of the input, numbers or text
    kind           segmentation or classification
    """

    name: str
    input: str
    output: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    shape: tuple[object, ...]
    kind: str
    modalities: tuple[str, ...]
    unit: str | None
    held: Mapping[str, Any]


def read_metadata(held: Mapping[str, Any], name: str) -> Metadata:
    """metadata.json, checked. Raises InputError, naming the key."""
    where = "metadata.json"
    lost = [key for key in _REQUIRED if key not in held]
    if lost:
        raise InputError(f"{where}: {', '.join(map(repr, lost))} missing, which every bundle has")
    form = asked(held, "network_data_format", dict, where)
    input_name, given = _first(asked(form, "inputs", dict, where), f"{where}: network_data_format.inputs")
    output_name, made = _first(asked(form, "outputs", dict, where), f"{where}: network_data_format.outputs")
    kinds = {"segmentation": "segmentation", "labels": "classification", "classes": "classification"}
    kind = kinds.get(str(made.get("format", "segmentation")))
    if kind is None or (made.get("type") == "probabilities" and kind == "segmentation"):
        kind = "classification" if made.get("type") == "probabilities" else None
    if kind is None:
        raise InputError(f"{where}: outputs of the format '{str(made.get('format'))[:40]}' are not imported")
    modality = str(given.get("modality", "")).upper().replace("MRI", "MR")
    shape = given.get("spatial_shape", [])
    return Metadata(
        name=str(held.get("name") or name)[:64],
        input=input_name,
        output=output_name,
        channels=_named(given, f"{where}: inputs.{input_name}", "channel"),
        classes=_named(made, f"{where}: outputs.{output_name}", "class"),
        shape=tuple(shape) if isinstance(shape, list) else (),
        kind=kind,
        modalities=tuple(one for one in _MODALITIES if re.search(rf"\b{one}\b", modality)),
        unit=_UNITS.get(str(given.get("format"))),
        held=held,
    )


def draft_card(read: Metadata, licence: str | None) -> dict[str, Any]:
    """The fields of a card that the metadata give; figures and data as the authors' words, under `extensions`."""
    held = read.held
    summary = _text(held.get("description"))
    listed = held.get("references")
    references = [_text(one)[:500] for one in (listed if isinstance(listed, list) else [listed]) if one and _text(one)]
    identity: dict[str, Any] = {"name": _text(read.name)}
    family = re.sub(r"[^a-z0-9.-]+", "-", read.name.lower()).strip("-.")[:63]
    if family:
        identity["family"] = family
    if _VERSION.fullmatch(str(held.get("version"))) and len(str(held["version"])) <= 32:
        identity["version"] = str(held["version"])
    identity["summary"] = summary
    if references:
        identity["citations"] = references
    claims = {str(key)[:100]: _text(value) for key, value in _table(held.get("eval_metrics")).items()}
    said: dict[str, Any] = {"authors": _text(held["authors"])} | {key: _text(held[key]) for key in _KEPT if key in held}
    said |= {"eval_metrics": claims, "figures": "claimed by the bundle's authors, not verified here"} if claims else {}
    card: dict[str, Any] = {"identity": identity}
    if licence is not None:
        card["licences"] = {"code": licence}
    card["task"] = read.kind
    if held.get("intended_use"):
        card["intended_use"] = {"statement": _text(held["intended_use"])}
    card["evaluation"] = []
    card["extensions"] = {"monai": said}
    return card


def licence_of(text: str) -> str | None:
    """The SPDX name of a licence's text, where its first lines name one of the common ones."""
    start = " ".join(text[:400].split())
    return next((name for words, name in _LICENCES if words in start), None)


def _first(named: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    tensors = {key: one for key, one in named.items() if isinstance(one, dict)}
    if len(tensors) != 1:
        raise InputError(f"{where} names {len(tensors)} tensors; networks with one are imported")
    ((name, one),) = tensors.items()
    if not name.isprintable() or not 1 <= len(name) <= 64:
        raise InputError(f"{where}: the name of a tensor is no plain text")
    return name, one


def _named(tensor: Mapping[str, Any], where: str, what: str) -> tuple[str, ...]:
    count = asked(tensor, "num_channels", int, where)
    if not 1 <= count <= 256:
        raise InputError(f"{where}: 'num_channels' is {count}; 1 to 256 are imported")
    told = _table(tensor.get("channel_def"))
    names = [_text(told.get(str(number)) or f"{what} {number}")[:64] for number in range(count)]
    return tuple(name if names.count(name) == 1 else f"{name[:58]} {number}" for number, name in enumerate(names))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return plain_text(value, 2000)
