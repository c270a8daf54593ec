"""A package in MONAI's form: metadata.json, inference.json with plain values, the graph, licence, a page for people.

After the MONAI Bundle Specification (docs.monai.io/en/stable/mb_specification.html). The package itself, but for its
graph, lies beside it under residency/, so that nothing of the card is lost on the way back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from residency.card import Card, Output
from residency.card.page import card_page
from residency.errors import UsageError
from residency.files.package import to_files
from residency.package import ModelPackage
from residency.recipe import Recipe, Step

OWN = "residency"
"""Folder of the bundle in which the package lies."""

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json"

_NOT_USED = "not used"
_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "minimum": "minimum"}


def to_monai(package: ModelPackage) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files of a bundle by path, and where MONAI's pipeline differs from ours, one sentence each.

    Raises UsageError for a network of several tensors, which this form describes no pipeline for.
    """
    card = package.card
    if len({one.tensor for one in card.inputs}) > 1 or len(card.outputs) > 1:
        raise UsageError(f"{card.identity.name} has several input or output tensors; bundles of one each are written")
    notes: list[str] = []
    config = _inference(card, notes)
    graph = package.with_role("graph")
    files = {
        "configs/metadata.json": _json(_metadata(card, notes)),
        "configs/inference.json": _json(config),
        "models/model.onnx": graph.data,
        "docs/README.md": _page(card, package.digest, notes),
    }
    licence = next((payload for payload in package.payloads if payload.role == "licence"), None)
    if licence is not None:
        files["LICENSE"] = licence.data
    files |= {f"{OWN}/{name}": data for name, data in to_files(package).items() if name != graph.name}
    return files, tuple(notes)


def _metadata(card: Card, notes: Sequence[str]) -> dict[str, Any]:
    software, output = card.training.software, card.outputs[0]
    figures = {f"{one.metric}{f', {one.subgroup}' if one.subgroup else ''}": one.value for one in card.evaluation}
    return {
        "schema": SCHEMA,
        "version": card.identity.version,
        "changelog": {card.identity.version: "written by Residency"},
        "monai_version": software.get("monai", _NOT_USED),
        "pytorch_version": software.get("torch", _NOT_USED),
        "numpy_version": software.get("numpy", _NOT_USED),
        "required_packages_version": {},
        "optional_packages_version": {},
        "name": card.identity.name,
        "task": card.task,
        "description": card.identity.summary,
        "authors": card.identity.publisher.name,
        "copyright": f"Weights: {card.licences.weights}. Code: {card.licences.code}.",
        "data_source": "; ".join(f"{one.name}, {one.source}" for one in card.training.datasets),
        "intended_use": f"{card.regulatory.notice} {card.intended_use.statement}",
        "references": list(card.identity.citations),
        "label_classes": ", ".join(f"{one.index} is {one.name}" for one in output.classes),
        "eval_metrics": figures,
        "differences": list(notes),
        "network_data_format": {
            "inputs": {"image": _tensor(card) | _shown(card)},
            "outputs": {"pred": _tensor(card) | _scores(output)},
        },
    }


def _tensor(card: Card) -> dict[str, Any]:
    shape = list(card.tiling.window)
    return {"type": "image", "spatial_shape": shape, "dtype": "float32", "value_range": [], "is_patch_data": True}


def _shown(card: Card) -> dict[str, Any]:
    return {
        "format": "hounsfield" if card.inputs[0].unit == "HU" else "magnitude",
        "modality": ",".join(card.inputs[0].modalities),
        "num_channels": len(card.inputs),
        "channel_def": {str(number): one.channel or one.name for number, one in enumerate(card.inputs)},
    }


def _scores(output: Output) -> dict[str, Any]:
    return {
        "type": "image" if output.kind != "classification" else "probabilities",
        "format": "segmentation" if output.kind == "segmentation" else "classes",
        "num_channels": len(output.classes),
        "channel_def": {str(one.index): one.name for one in output.classes},
    }


def _inference(card: Card, notes: list[str]) -> dict[str, Any]:
    """Plain values alone, and references between them; no expression."""
    config: dict[str, Any] = {"bundle_root": ".", "network_file": "models/model.onnx"}
    if any(one.recipe != card.inputs[0].recipe for one in card.inputs):
        notes.append("The inputs are prepared differently; this bundle describes no preparation.")
        return config
    before = _preparation(card.inputs[0].recipe, notes)
    if before is None:
        return config
    config["preprocessing"] = {"_target_": "Compose", "transforms": before}
    config["inferer"] = {
        "_target_": "SlidingWindowInferer",
        "roi_size": list(card.tiling.window),
        "sw_batch_size": 1,
        "overlap": card.tiling.overlap,
        "mode": "gaussian" if card.tiling.blend == "gaussian" else "constant",
    }
    config["postprocessing"] = {"_target_": "Compose", "transforms": _afterwards(card.outputs[0], notes)}
    return config


def _preparation(recipe: Recipe, notes: list[str]) -> list[dict[str, Any]] | None:
    """The steps as transforms; None, with a note, where one has no equal: half a preparation is worse than none."""
    made = [_transform("LoadImaged"), _transform("EnsureChannelFirstd")]
    for step in recipe.steps:
        transforms = _equal(step, notes)
        if transforms is None:
            values = ", ".join(f"{key} {value}" for key, value in step.parameters.items())
            notes.append(f"No preparation is described here: the step '{step.name}' ({values}) has no equal in MONAI.")
            return None
        made += transforms
    return [*made, _transform("EnsureTyped")]


def _equal(step: Step, notes: list[str]) -> list[dict[str, Any]] | None:
    """One step as transforms of MONAI, None where there are none."""
    given: Mapping[str, Any] = step.parameters
    match step.name:
        case "orient":
            return [_transform("Orientationd", axcodes=given["letters"])]
        case "resample":
            if (given.get("grid"), given.get("interpolation")) != ("first", "linear"):
                notes.append("MONAI's Spacing lays its grid from the first voxel and interpolates plainly linear.")
            return [_transform("Spacingd", pixdim=_three(given["spacing_mm"]), mode="bilinear")]
        case "resize":
            if given.get("interpolation") != "linear":
                notes.append("MONAI's Resize interpolates plainly linear.")
            return [_transform("Resized", spatial_size=[n or -1 for n in given["shape"]], mode="trilinear")]
        case "crop" if given.get("foreground") and given.get("above") == 0:
            margin = given.get("margin", 0)
            return [_transform("CropForegroundd", source_key="image", margin=margin, allow_smaller=True)]
        case "pad":
            filled = {"value": given["value"]} if given.get("value") else {}
            mode = _MODES[given.get("mode", "constant")]
            return [_transform("DivisiblePadd", k=[int(n) for n in _three(given["multiple"])], mode=mode, **filled)]
    return _of_values(step.name, given)


def _of_values(name: str, given: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    match name:
        case "clip" if "values" in given:
            return [_ranged(*given["values"], *given["values"])]
        case "clip":
            low, high = given["percentiles"]
            return [_transform("ClipIntensityPercentilesd", lower=low, upper=high, channel_wise=True)]
        case "scale":
            shift, scale = given.get("shift", 0.0), given.get("scale", 1.0)
            return [_transform("NormalizeIntensityd", subtrahend=shift, divisor=scale)]
        case "window":
            half = given["width"] / 2
            return [_ranged(given["centre"] - half, given["centre"] + half, 0.0, 1.0)]
        case "normalise":
            return _normalised(given)
    return None


def _ranged(low: float, high: float, to_low: float, to_high: float) -> dict[str, Any]:
    return _transform("ScaleIntensityRanged", a_min=low, a_max=high, b_min=to_low, b_max=to_high, clip=True)


def _normalised(given: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    method, over = given.get("method", "z-score"), given.get("over", "all")
    if over == "foreground":
        alike = method == "z-score" and given.get("above") == 0 and given.get("outside") == "zero"
        return [_transform("NormalizeIntensityd", nonzero=True, channel_wise=True)] if alike else None
    if method == "z-score":
        return [_transform("NormalizeIntensityd", channel_wise=True)]
    if method == "min-max":
        return [_transform("ScaleIntensityd", minv=0.0, maxv=1.0, channel_wise=True)]
    lower, upper = given.get("lower", 0.5), given.get("upper", 99.5)
    return [
        _transform("ScaleIntensityRangePercentilesd", lower=lower, upper=upper, b_min=0.0, b_max=1.0, channel_wise=True)
    ]


def _afterwards(output: Output, notes: list[str]) -> list[dict[str, Any]]:
    rule = output.decision
    activation = [_transform("Activationsd", "pred", **{rule.activation: True})] if rule.activation != "none" else []
    back = [_transform("Invertd", "pred", transform="@preprocessing", orig_keys="image", nearest_interp=False)]
    discrete: dict[str, Any] = {"argmax": True} if rule.rule == "argmax" else {"threshold": rule.threshold}
    if output.kind == "classification":
        return [*activation, _transform("AsDiscreted", "pred", **discrete)]
    made = [*activation, *back] if rule.interpolated == "activated" else [*back, *activation]
    made.append(_transform("AsDiscreted", "pred", **discrete))
    labels = [
        one.index
        for one in output.classes
        if (one.index or rule.rule == "threshold") and (rule.largest_only or one.largest_only)
    ]
    if labels:
        made.append(_transform("KeepLargestConnectedComponentd", "pred", applied_labels=labels))
    if rule.smallest_component_mm3:
        notes.append(f"Components below {rule.smallest_component_mm3:g} mm3 are dropped here, and not by this bundle.")
    return made


def _transform(kind: str, keys: str = "image", **arguments: Any) -> dict[str, Any]:
    return {"_target_": kind, "keys": keys, **arguments}


def _three(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * 3


def _page(card: Card, digest: str, notes: Sequence[str]) -> bytes:
    differs = "".join(f"- {note}\n" for note in notes) or "- Nowhere that is known.\n"
    text = (
        f"# {card.identity.name} {card.identity.version}\n\n{card.regulatory.notice}\n\n"
        f"Written by Residency from the package {digest}, which lies in `{OWN}/`. The network is `models/model.onnx`: "
        f"it takes `{card.inputs[0].tensor}` and gives `{card.outputs[0].tensor}`, both float32, (n, channels, axes as "
        "Orientation names them).\n\n"
        f"## Where MONAI's pipeline differs\n\n{differs}\n## Card\n\n```\n{card_page(card, digest).text()}```\n"
    )
    return text.encode("utf-8")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode("ascii")
