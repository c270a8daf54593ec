"""nnU-Net's plans and dataset.json: which network, how images are prepared for it, and what its classes are.

After nnU-Net 2.8.1 (plans_handler.py, default_preprocessor.py, label_handling.py). What this house cannot do as
nnU-Net does it is refused by name; what it does slightly differently stands in `Planned.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from residency.errors import InputError, UsageError
from residency.train.importing.reading import asked, must_be_seen_at_once, numbers, plain_text

CONFIGURATIONS = ("3d_fullres", "3d_lowres")
"""Those that stand for themselves. 2d works on slices, and the second stage of a cascade needs the first one's
result as channels."""

_CLASSES = {"PlainConvUNet": "planned-unet", "ResidualEncoderUNet": "resenc-unet"}
"""Class of dynamic-network-architectures -> net of ours."""

_FIXED: Mapping[str, tuple[object, ...]] = {
    "conv_op": ("torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"),
    "norm_op": ("torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d"),
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
    "conv_bias": (True,),
    "dropout_op": (None,),
    "dropout_op_kwargs": (None, {}),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_kwargs": ({"inplace": True}, {"inplace": True, "negative_slope": 0.01}, {}),
    "deep_supervision": (True, False, None),
    "nonlin_first": (False, None),
    "block": (None,),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
}
"""Settings that the nets have only in nnU-Net's default; None: left out."""

_SHAPING = {"n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage"}
_SHAPING |= {"n_conv_per_stage_decoder"}

_MOST_FEATURES, _MOST_LAYERS = 4096, 64
"""Of a stage."""

_RESAMPLING, _THICK = "resample_data_or_seg_to_shape", 3.0
"""nnU-Net's own function (ANISO_THRESHOLD): cubic, but by the nearest along an axis that is so much coarser."""

_REORIENTS = "NibabelIOWithReorient"
"""nnU-Net's one reader that turns images to RAS, so that the axes of its arrays are known: S, A, R."""


@dataclass(frozen=True)
class Planned:
    """What the plans say of one configuration.

    net, parameters  in the registry, without channels and classes
    channels         what each channel shows, in order
    classes          what each score is of, in order; with `regions` there is no background among them
    window           voxels (slice, row, column), already transposed
    steps            of the recipe by channel, without `orient`, which needs to know how the images lay
    orientation      letters for `orient`, where the plans tell them
    transpose        how nnU-Net exchanged the axes of an array
    notes            where our preparation differs from nnU-Net's, one sentence each
    """

    dataset: str
    plans: str
    configuration: str
    net: str
    parameters: Mapping[str, Any]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    regions: bool
    window: tuple[int, int, int]
    spacing: tuple[float, float, float]
    steps: tuple[tuple[tuple[str, Mapping[str, Any]], ...], ...]
    orientation: str | None
    transpose: tuple[int, int, int]
    notes: tuple[str, ...] = field(default=())

    def turned(self, letters: str) -> str:
        """`letters` of an array as it was read (slice, row, column) -> of the array as the network sees it."""
        if len(letters) != 3:
            raise UsageError(f"an orientation has three letters, such as SPL, not '{letters}'")
        return "".join(letters[axis] for axis in self.transpose)


def read_plans(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> Planned:
    """One configuration of the plans. Raises InputError, naming the key, for what is malformed or not imported."""
    chosen = _configuration(plans, configuration)
    where = f"plans, configuration '{configuration}'"
    if chosen.get("previous_stage"):
        raise InputError(f"{where} is the second stage of a cascade, which is not imported: it sees the first's result")
    net, parameters = _net(chosen, where)
    channels = _channels(dataset)
    classes, regions = _classes(dataset)
    window = numbers(asked(chosen, "patch_size", list, where), f"{where}: 'patch_size'", int)
    spacing = numbers(asked(chosen, "spacing", list, where), f"{where}: 'spacing'", float)
    transpose = numbers(asked(plans, "transpose_forward", list, "plans"), "plans: 'transpose_forward'", int, 3)
    if len(window) != 3 or len(spacing) != 3:
        raise InputError(f"{where} is not three-dimensional; imported are {', '.join(CONFIGURATIONS)}")
    if sorted(transpose) != [0, 1, 2] or min(window) < 1 or min(spacing) <= 0:
        raise InputError(
            f"{where}: patch_size {window}, spacing {spacing}, transpose_forward {transpose} are impossible"
        )
    must_be_seen_at_once(window, len(channels), where)
    steps, notes = _preparation(plans, chosen, where, channels, spacing)
    reader = plans.get("image_reader_writer")
    return Planned(
        dataset=plain_text(plans.get("dataset_name", dataset.get("name", "")), 100),
        plans=plain_text(plans.get("plans_name", ""), 100),
        configuration=configuration,
        net=net,
        parameters=parameters,
        channels=channels,
        classes=classes,
        regions=regions,
        window=(window[0], window[1], window[2]),
        spacing=(spacing[0], spacing[1], spacing[2]),
        steps=steps,
        orientation="SAR" if reader == _REORIENTS else None,
        transpose=(transpose[0], transpose[1], transpose[2]),
        notes=notes,
    )


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """With what it inherits."""
    known = asked(plans, "configurations", dict, "plans")
    made: dict[str, Any] = {}
    seen: list[str] = []
    wanted: object = name
    while wanted is not None:
        if wanted in seen or not isinstance(wanted, str) or not isinstance(known.get(wanted), dict):
            there = ", ".join(list(map(str, known))[:10])
            raise InputError(f"plans: no configuration '{str(wanted)[:50]}' that can be followed; there are: {there}")
        seen.append(wanted)
        made = {**known[wanted], **made}
        wanted = known[wanted].get("inherits_from")
    return made


def _net(chosen: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters in our registry."""
    kind, kwargs = _architecture(chosen, where)
    if kind not in _CLASSES:
        raise InputError(f"{where}: networks of class '{kind[:50]}' are not imported, only {' and '.join(_CLASSES)}")
    for key, value in kwargs.items():
        if key not in _SHAPING and value not in _FIXED.get(key, ()):
            raise InputError(f"{where}: a {kind} with {key} = {str(value)[:80]} is not imported")
    for key in ("conv_op", "norm_op", "norm_op_kwargs", "conv_bias", "nonlin"):
        if key not in kwargs:
            raise InputError(f"{where}: '{key}' is missing from the architecture")
    stages = asked(kwargs, "n_stages", int, where)
    if not 2 <= stages <= 12:
        raise InputError(f"{where}: {stages} stages; 2 to 12 are imported")
    made: dict[str, Any] = {
        "features": _stagewise(kwargs, "features_per_stage", stages, where),
        "kernels": _triples(kwargs, "kernel_sizes", stages, where),
        "strides": _triples(kwargs, "strides", stages, where),
    }
    up = _stagewise(kwargs, "n_conv_per_stage_decoder", stages - 1, where, _MOST_LAYERS)
    if kind == "PlainConvUNet":
        return _CLASSES[kind], {
            **made,
            "down": _stagewise(kwargs, "n_conv_per_stage", stages, where, _MOST_LAYERS),
            "up": up,
        }
    if set(up) != {1}:
        raise InputError(f"{where}: a {kind} with {up} convolutions a stage going up is not imported, only with one")
    return _CLASSES[kind], {**made, "blocks": _stagewise(kwargs, "n_blocks_per_stage", stages, where, _MOST_LAYERS)}


def _architecture(chosen: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Class and settings; from plans of before nnU-Net 2.3, too, as its own plans_handler reads them."""
    if "architecture" in chosen:
        told = asked(chosen, "architecture", dict, where)
        kind = asked(told, "network_class_name", str, where).rpartition(".")[2]
        return kind, asked(told, "arch_kwargs", dict, where)
    kind = asked(chosen, "UNet_class_name", str, where)
    down = numbers(asked(chosen, "n_conv_per_stage_encoder", list, where), f"{where}: 'n_conv_per_stage_encoder'", int)
    base, most = asked(chosen, "UNet_base_num_features", int, where), asked(chosen, "unet_max_num_features", int, where)
    return kind, {
        "n_stages": len(down),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(down))],
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": chosen.get("conv_kernel_sizes"),
        "strides": chosen.get("pool_op_kernel_sizes"),
        "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage": down,
        "n_conv_per_stage_decoder": chosen.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _stagewise(
    kwargs: Mapping[str, Any], key: str, stages: int, where: str, most: int = _MOST_FEATURES
) -> tuple[int, ...]:
    value = kwargs.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value] * stages
    found = numbers(value, f"{where}: '{key}'", int, stages)
    if not 1 <= min(found) <= max(found) <= most:
        raise InputError(f"{where}: '{key}' holds {min(found)} to {max(found)}; 1 to {most} are imported")
    return tuple(found)


def _triples(kwargs: Mapping[str, Any], key: str, stages: int, where: str) -> tuple[int, ...]:
    """Three numbers a stage, in a row, as the nets take them."""
    value = kwargs.get(key)
    if isinstance(value, int) or (isinstance(value, list) and len(value) == stages):
        each = [value] * stages if isinstance(value, int) else value
        flat = [number for one in each for number in (one if isinstance(one, list) else [one] * 3)]
        found = numbers(flat, f"{where}: '{key}'", int, 3 * stages)
        if 1 <= min(found) <= max(found) <= 31:
            return tuple(found)
    raise InputError(f"{where}: '{key}' is not three numbers, 1 to 31, for each of {stages} stages")


def _channels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    told = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(told, dict) or not 1 <= len(told) <= 16 or set(told) != {str(n) for n in range(len(told))}:
        raise InputError("dataset.json: 'channel_names' does not name 1 to 16 channels by number from 0")
    return tuple(plain_text(told[str(n)], 64) for n in range(len(told)))


def _classes(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Names in the order of the scores, and whether they are overlapping regions."""
    labels = {key: value for key, value in asked(dataset, "labels", dict, "dataset.json").items() if key != "ignore"}
    if labels.pop("background", None) != 0 or not 1 <= len(labels) <= 1000:
        raise InputError("dataset.json: 'labels' need 'background' with value 0 and 1 to 1000 more")
    regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    if regions:
        return _each_once(labels), True
    values = {name: value[0] if isinstance(value, list) and value else value for name, value in labels.items()}
    if sorted(map(str, values.values())) != sorted(map(str, range(1, len(values) + 1))):
        raise InputError("dataset.json: the values of 'labels' are not 1, 2, 3 ... without a gap")
    return _each_once(["background", *sorted(values, key=lambda name: int(values[name]))]), False


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    plain = tuple(plain_text(name, 64) for name in names)
    if len(set(plain)) < len(plain) or not all(plain):
        raise InputError("dataset.json: 'labels' need names of their own, of at most 64 letters")
    return plain


def _preparation(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], where: str, channels: tuple[str, ...], spacing: list[float]
) -> tuple[tuple[tuple[tuple[str, Mapping[str, Any]], ...], ...], tuple[str, ...]]:
    """Steps by channel, and what differs: nnU-Net crops to the non-zero box, normalises, then resamples."""
    schemes = asked(chosen, "normalization_schemes", list, where)
    masked = asked(chosen, "use_mask_for_norm", list, where)
    if len(schemes) != len(channels) or len(masked) != len(channels):
        raise InputError(f"{where}: normalization_schemes and use_mask_for_norm are not one for each channel")
    resample, notes = _resampled(chosen, where, spacing)
    cropped = len(channels) == 1 and schemes[0] != "CTNormalization"
    if cropped:
        notes.append("The box that is kept holds values above 0; nnU-Net keeps all but 0, and fills holes in a mask.")
    elif "CTNormalization" not in schemes:
        notes.append(
            "nnU-Net cuts the images to where any channel is not 0, which several inputs cannot do together here: "
            "means and deviations are of the whole image, or of each channel's own values above 0."
        )
    made: list[tuple[tuple[str, Mapping[str, Any]], ...]] = []
    for number, (scheme, mask) in enumerate(zip(schemes, masked, strict=True)):
        steps: list[tuple[str, Mapping[str, Any]]] = []
        if cropped:
            steps.append(("crop", {"foreground": True, "above": 0.0}))
        steps += _normalised(plans, number, scheme, mask is True, where)
        made.append((*steps, resample))
    return tuple(made), tuple(notes)


def _resampled(
    chosen: Mapping[str, Any], where: str, spacing: list[float]
) -> tuple[tuple[str, Mapping[str, Any]], list[str]]:
    """The step as nnU-Net resamples images, and what differs on the way back."""
    name = chosen.get("resampling_fn_data", _RESAMPLING)
    told = {
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
        **asked(chosen, "resampling_fn_data_kwargs", dict, where, {}),
    }
    order, force = told["order"], told["force_separate_z"]
    if name != _RESAMPLING or order not in (1, 3) or told["order_z"] != 0 or force not in (None, False):
        raise InputError(f"{where}: images resampled by {str(name)[:50]} with {str(told)[:120]} are not imported")
    thick = _THICK if force is None else 0.0
    step: dict[str, Any] = {"spacing_mm": tuple(spacing), "tolerance": 0.0, "grid": "edges"}
    if order == 3:
        step |= {"interpolation": "cubic"} | ({"thick": thick} if thick else {})
    else:
        step |= {"interpolation": "linear"}
    notes = ["Scores are brought back linearly along every axis; nnU-Net takes the nearest across thick slices."]
    if order == 1 and thick:
        notes.append("Images are resampled linearly along every axis; nnU-Net takes the nearest across thick slices.")
    return ("resample", step), notes


def _normalised(
    plans: Mapping[str, Any], number: int, scheme: object, mask: bool, where: str
) -> list[tuple[str, dict[str, Any]]]:
    match scheme:
        case "ZScoreNormalization" if mask:
            inside = {"method": "z-score", "over": "foreground", "above": 0.0, "outside": "zero"}
            return [("normalise", inside)]
        case "ZScoreNormalization":
            return [("normalise", {"method": "z-score"})]
        case "RescaleTo01Normalization":
            return [("normalise", {"method": "min-max"})]
        case "NoNormalization":
            return []
        case "CTNormalization":
            old = "foreground_intensity_properties_by_modality"
            key = old if old in plans else "foreground_intensity_properties_per_channel"
            told = asked(asked(plans, key, dict, "plans"), str(number), dict, f"plans: '{key}'")
            low, high, mean, deviation = (
                asked(told, name, float, f"plans: '{key}', channel {number}")
                for name in ("percentile_00_5", "percentile_99_5", "mean", "std")
            )
            if not low < high or not deviation > 0:
                raise InputError(f"plans: '{key}', channel {number}: {low}..{high}, deviation {deviation} are no range")
            return [("clip", {"values": (low, high)}), ("scale", {"shift": mean, "scale": max(deviation, 1e-8)})]
    raise InputError(f"{where}: the normalisation '{str(scheme)[:50]}' is not imported")
