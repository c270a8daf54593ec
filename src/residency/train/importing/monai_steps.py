"""MONAI's transforms as a recipe, a decision rule and a tiling of ours; what has no exact equal is refused by name.

After MONAI 1.6 (monai/transforms, monai/inferers). Arrays there are (channel, x, y, z) as a NIfTI file lies; so the
axes of a bundle's network are those that its Orientation names, and are our first, second and third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from residency.errors import InputError
from residency.train.importing.monai_config import POSITIVE, Described

Step = tuple[str, Mapping[str, Any]]

_NO_CHANGE = {"LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "ToDevice"}
_NO_CHANGE |= {"SelectItems", "DeleteItems", "FromMetaTensor", "ToMetaTensor", "Identity"}
"""Transforms that leave values and grid as they are, for images that are read as we read them."""

_FORM = {
    "keys",
    "allow_missing_keys",
    "meta_keys",
    "meta_key_postfix",
    "dtype",
    "lazy",
    "source_key",
    "start_coord_key",
}
_FORM |= {"end_coord_key", "orig_keys", "orig_meta_keys", "labels", "overwrite", "track_meta", "device"}
"""Arguments that say where things lie, and not what becomes of them."""


@dataclass(frozen=True)
class Preparation:
    """What a bundle's preprocessing is in our terms.

    steps        of the recipe, the same for every channel
    orientation  letters that the bundle names, None where it takes images as they lie
    notes        where ours differs, one sentence each
    """

    steps: tuple[Step, ...]
    orientation: str | None
    notes: tuple[str, ...]


class _Arguments:
    """The arguments of one transform; whatever is not asked for is refused in the end."""

    def __init__(self, one: Described, where: str) -> None:
        self.kind, self.where = one.kind, where
        self._left = {key: value for key, value in one.arguments.items() if key not in _FORM}

    def take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, default)
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(f"{key} = {value}, which is no number")
        return float(value)

    def numbers(self, key: str, length: int = 3) -> tuple[float, ...]:
        value = self.take(key)
        listed = value if isinstance(value, list) else [value] * length
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in listed) or not listed:
            self.refuse(f"{key} = {value}, which are no numbers")
        return tuple(float(one) for one in [*listed, *[listed[-1]] * (length - len(listed))][:length])

    def only(self, key: str, *allowed: Any) -> None:
        """The argument, if it is given, is one of these; the first is its default."""
        value = self.take(key, allowed[0])
        if not any(value == one and type(value) is type(one) for one in allowed):
            self.refuse(f"{key} = {value}")

    def refuse(self, why: str) -> None:
        raise InputError(f"{self.where}: {self.kind} with {why[:160]} has no exact equal here and is not imported")

    def finish(self) -> None:
        for key, value in self._left.items():
            if value is not None:
                self.refuse(f"{key[:40]} = {value}")


def preparation(transforms: Sequence[Described], channels: int, where: str) -> Preparation:
    """A bundle's preprocessing as steps of a recipe. Raises InputError, naming the transform and its argument."""
    steps: list[Step] = []
    notes: list[str] = []
    letters: str | None = None
    images = next((_keys(one) for one in transforms if _bare(one.kind) == "LoadImage"), set())
    for one in transforms:
        kind = _bare(one.kind)
        keys = _keys(one)
        if images and keys and not images & keys:
            continue  # of labels, say, which nobody has where the network is used
        asked = _Arguments(Described(kind, one.arguments), where)
        if kind in _NO_CHANGE:
            continue
        if kind == "Orientation":
            if any(name in ("resample", "crop", "pad", "resize") for name, _ in steps):
                asked.refuse("axes that are turned after they were cut or resampled")
            letters = _letters(asked)
        elif kind in _STEPS:
            made = _STEPS[kind](asked, channels, notes)
            if letters is None and kind == "Spacing" and len(set(made[0][1]["spacing_mm"])) > 1:
                asked.refuse("unequal spacings before any Orientation: their axes are those of the file")
            steps += made
        else:
            raise InputError(
                f"{where}: the transform '{kind}' has no equal here and is not imported; known are "
                f"{', '.join(sorted((*_STEPS, 'Orientation')))}"
            )
        asked.finish()
    return Preparation(tuple(steps), letters, tuple(dict.fromkeys(notes)))


def decision(transforms: Sequence[Described], classes: int, where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A bundle's postprocessing as the fields of a card's decision, and notes. Raises InputError."""
    made: dict[str, Any] = {}
    notes: list[str] = []
    for one in transforms:
        kind = _bare(one.kind)
        asked = _Arguments(Described(kind, one.arguments), where)
        if kind == "Activations":
            chosen = [name for name in ("softmax", "sigmoid") if asked.take(name, False) is True]
            if len(chosen) > 1:
                asked.refuse("softmax and sigmoid together")
            made |= {"activation": chosen[0]} if chosen else {}
        elif kind == "AsDiscrete":
            made |= _discrete(asked)
        elif kind == "KeepLargestConnectedComponent":
            made["largest_only"] = True
            asked.only("independent", True)
            asked.only("connectivity", None, 3)
            asked.only("num_components", 1)
            asked.take("is_onehot")
            labels = asked.take("applied_labels")
            every = list(range(1, classes)) if made.get("rule") == "argmax" else list(range(classes))
            if labels is not None and (labels if isinstance(labels, list) else [labels]) != every:
                asked.refuse(f"applied_labels = {labels}, not all of {every}")
        elif kind == "Invert":
            if made.get("activation") and "rule" not in made:
                made["interpolated"] = "activated"
            if asked.take("nearest_interp", True) is True:
                notes.append("The bundle brings labels back by the nearest voxel; here scores are, and then decided.")
            continue
        elif kind in _NO_CHANGE or kind == "SaveImage":
            continue
        else:
            raise InputError(f"{where}: '{kind}' after the network has no equal here and is not imported")
        asked.finish()
    return made, tuple(notes)


def tiling(inferer: Described | None, shape: Sequence[object], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Window and overlap, as far as a bundle names them, and notes. Raises InputError.

    shape  of the network's input in metadata.json, for a bundle whose inferer names none
    """
    fixed = [side for side in shape if isinstance(side, int) and not isinstance(side, bool) and side > 0]
    whole = {"window": fixed, "overlap": 0.5} if len(fixed) == 3 else {}
    if inferer is None or inferer.kind == "SimpleInferer":
        return whole, ("The bundle runs the network on the whole image; here it runs in windows.",)
    if inferer.kind not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise InputError(f"{where}: the inferer '{inferer.kind}' has no equal here and is not imported")
    asked = _Arguments(inferer, where)
    window = asked.numbers("roi_size")
    if any(side < 1 or side != int(side) for side in window):
        asked.refuse(f"roi_size = {window}")
    notes = ["Windows lie evenly here; MONAI begins at the first voxel and shifts the last one back."]
    mode = asked.take("mode", "constant")
    if mode not in ("constant", "gaussian"):
        asked.refuse(f"mode = {mode}")
    if asked.take("sigma_scale", 0.125) != 0.125 and mode == "gaussian":
        notes.append("Windows are blended here by a Gaussian of 1/8 of the window, the bundle's is another.")
    asked.only("padding_mode", "constant")
    asked.only("cval", 0, 0.0)
    asked.only("with_coord", False)
    overlap = asked.number("overlap", 0.25)
    if not 0 <= overlap <= 0.9:
        asked.refuse(f"overlap = {overlap}")
    even = {"blend": "even"} if mode == "constant" else {}
    return {"window": [int(side) for side in window], "overlap": overlap, **even}, tuple(notes)


def _keys(one: Described) -> set[str]:
    keys = one.arguments.get("keys")
    return {key for key in (keys if isinstance(keys, list) else [keys]) if isinstance(key, str)}


def _bare(kind: str) -> str:
    """Without the ending of the form for dictionaries: Spacingd, SpacingD, SpacingDict."""
    for ending in ("Dict", "D", "d"):
        short = kind.removesuffix(ending)
        if short != kind and (short in _STEPS or short in _NO_CHANGE or short in _OTHERS):
            return short
    return kind


_OTHERS = {"Orientation", "Activations", "AsDiscrete", "KeepLargestConnectedComponent", "Invert", "SaveImage"}


def _letters(asked: _Arguments) -> str:
    if asked.take("as_closest_canonical", False) is True:
        return "RAS"
    letters = asked.take("axcodes")
    if (
        not isinstance(letters, str)
        or len(letters) != 3
        or {frozenset("LR"), frozenset("PA"), frozenset("SI")}
        != {pair for pair in (frozenset("LR"), frozenset("PA"), frozenset("SI")) for one in letters if one in pair}
    ):
        asked.refuse(f"axcodes = {letters}")
    return str(letters)


def _discrete(asked: _Arguments) -> dict[str, Any]:
    asked.only("to_onehot", None)
    asked.only("rounding", None)
    asked.take("n_classes")
    threshold = asked.take("threshold")
    if asked.take("argmax", False) is True:
        if threshold is not None:
            asked.refuse("argmax and threshold together")
        return {"rule": "argmax"}
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        asked.refuse(f"threshold = {threshold}, and no argmax")
    return {"rule": "threshold", "threshold": float(threshold)}


def _spacing(asked: _Arguments, _channels: int, _notes: list[str]) -> list[Step]:
    mode = asked.take("mode", "bilinear")
    if (mode[0] if isinstance(mode, list) else mode) not in ("bilinear", "trilinear"):
        asked.refuse(f"mode = {mode}")
    for key, allowed in (
        ("padding_mode", ("border",)),
        ("align_corners", (False, None)),
        ("diagonal", (False,)),
        ("recompute_affine", (False,)),
        ("scale_extent", (False,)),
    ):
        asked.only(key, *allowed)
    sides = tuple(max(side, 0.0) for side in asked.numbers("pixdim"))
    return [("resample", {"spacing_mm": sides, "grid": "first", "interpolation": "linear", "tolerance": 0.001})]


def _range(asked: _Arguments, _channels: int, _notes: list[str]) -> list[Step]:
    low, high = asked.number("a_min"), asked.number("a_max")
    if not low < high:
        asked.refuse(f"a_min {low}, a_max {high}")
    to_low, to_high = asked.take("b_min"), asked.take("b_max")
    cut = asked.take("clip", False) is True
    if to_low is None or to_high is None:
        if cut:
            asked.refuse("clip = True and no b_min, b_max")
        to_low, to_high = 0.0, 1.0
    return [*([("clip", {"values": (low, high)})] if cut else []), *_to(low, high, to_low, to_high, asked)]


def _to(low: float, high: float, to_low: Any, to_high: Any, asked: _Arguments) -> list[Step]:
    """`scale` that takes low..high to to_low..to_high; nothing where they are the same."""
    if (
        any(isinstance(one, bool) or not isinstance(one, int | float) for one in (to_low, to_high))
        or not to_low < to_high
    ):
        asked.refuse(f"the range {to_low} to {to_high}")
    scale = (high - low) / (to_high - to_low)
    shift = low - to_low * scale
    return [] if (shift, scale) == (0.0, 1.0) else [("scale", {"shift": shift, "scale": scale})]


def _percentiles(asked: _Arguments, channels: int, _notes: list[str]) -> list[Step]:
    _by_channel(asked, channels)
    lower, upper = asked.number("lower"), asked.number("upper")
    asked.only("relative", False)
    cut = asked.take("clip", False) is True
    to_low, to_high = asked.take("b_min"), asked.take("b_max")
    if to_low is None or to_high is None:
        if cut:
            asked.refuse("clip = True and no b_min, b_max")
        to_low, to_high = 0, 1
    first: list[Step] = [("clip", {"percentiles": (lower, upper)})] if cut else []
    method = {"method": "min-max"} if cut else {"method": "percentile", "lower": lower, "upper": upper}
    return [*first, ("normalise", method), *_to(0.0, 1.0, to_low, to_high, asked)]


def _clipped(asked: _Arguments, channels: int, _notes: list[str]) -> list[Step]:
    _by_channel(asked, channels)
    asked.only("sharpness_factor", None)
    asked.only("return_clipping_values", False)
    return [("clip", {"percentiles": (asked.number("lower", 0.0), asked.number("upper", 100.0))})]


def _intensity(asked: _Arguments, channels: int, _notes: list[str]) -> list[Step]:
    _by_channel(asked, channels)
    asked.only("factor", None)
    low, high = asked.take("minv", 0.0), asked.take("maxv", 1.0)
    if low is None or high is None:
        asked.refuse("minv or maxv = None")
    return [("normalise", {"method": "min-max"}), *_to(0.0, 1.0, low, high, asked)]


def _normalised(asked: _Arguments, channels: int, notes: list[str]) -> list[Step]:
    nonzero = asked.take("nonzero", False) is True
    shift, scale = asked.take("subtrahend"), asked.take("divisor")
    if shift is not None or scale is not None:
        if nonzero or any(isinstance(one, bool) or not isinstance(one, int | float) for one in (shift, scale)):
            asked.refuse(f"subtrahend = {shift}, divisor = {scale}, nonzero = {nonzero}")
        asked.take("channel_wise")
        return [("scale", {"shift": float(shift), "scale": float(scale)})]
    _by_channel(asked, channels)
    if not nonzero:
        return [("normalise", {"method": "z-score"})]
    notes.append("Foreground is what lies above 0 here, for MONAI all but 0: no difference where nothing lies below.")
    return [("normalise", {"method": "z-score", "over": "foreground", "above": 0.0, "outside": "zero"})]


def _foreground(asked: _Arguments, channels: int, _notes: list[str]) -> list[Step]:
    if channels > 1:
        asked.refuse("several channels, which are cut together")
    asked.only("select_fn", POSITIVE)
    asked.only("channel_indices", None)
    asked.only("k_divisible", 1)
    asked.only("return_coords", False)
    asked.only("mode", "constant")
    margin = asked.number("margin", 0)
    if margin and asked.take("allow_smaller", False) is not True:
        asked.refuse("a margin that is filled up where the image ends (allow_smaller = False)")
    asked.take("allow_smaller")
    return [("crop", {"foreground": True, "above": 0.0, **({"margin": int(margin)} if margin else {})})]


def _divisible(asked: _Arguments, _channels: int, _notes: list[str]) -> list[Step]:
    modes = {"constant": "constant", "edge": "edge", "replicate": "edge", "reflect": "reflect", "minimum": "minimum"}
    mode = asked.take("mode", "constant")
    if mode not in modes:
        asked.refuse(f"mode = {mode}")
    asked.only("method", "symmetric")
    value = asked.number("constant_values", asked.number("value", 0.0))
    sides = tuple(max(1, int(side)) for side in asked.numbers("k"))
    filled = {"value": value} if value and modes[mode] == "constant" else {}
    return [("pad", {"multiple": sides, "mode": modes[mode], **filled})]


def _resized(asked: _Arguments, _channels: int, _notes: list[str]) -> list[Step]:
    mode = asked.take("mode", "area")
    if mode not in ("trilinear", "bilinear", "linear"):
        asked.refuse(f"mode = {mode}")
    asked.only("align_corners", None, False)
    asked.only("anti_aliasing", False)
    asked.only("size_mode", "all")
    return [
        (
            "resize",
            {"shape": tuple(int(max(side, 0)) for side in asked.numbers("spatial_size")), "interpolation": "linear"},
        )
    ]


def _by_channel(asked: _Arguments, channels: int) -> None:
    """Several channels must be measured each by itself, since each is an input of its own here."""
    if asked.take("channel_wise", False) is not True and channels > 1:
        asked.refuse("channel_wise = False over several channels")


_STEPS: Mapping[str, Callable[[_Arguments, int, list[str]], list[Step]]] = {
    "Spacing": _spacing,
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ClipIntensityPercentiles": _clipped,
    "ScaleIntensity": _intensity,
    "NormalizeIntensity": _normalised,
    "CropForeground": _foreground,
    "DivisiblePad": _divisible,
    "Resize": _resized,
}
