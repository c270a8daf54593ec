"""What each layer of torch becomes in 3D: an explicit table, by exact class.

A layer whose settings say one thing along rows and another along columns is refused where nothing says what holds along
the third axis. So is what has no counterpart that means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn

from residency.nets.acs.copies import Copies
from residency.nets.acs.inflate import Grown, Inflation, inflated, one, slicewise
from residency.nets.acs.operator import ACSConv3d
from residency.nets.acs.report import UnsuitedError
from residency.nets.acs.settings import Kind
from residency.nets.acs.transposed import ACSConvTranspose3d

To = Literal["acs", "soft-acs", "mean-acs", "i3d", "slicewise"]
KINDS: Mapping[str, Kind] = {"acs": "hard", "soft-acs": "soft", "mean-acs": "mean"}
"""Conversion -> kind of ACS convolution."""


@dataclass(frozen=True)
class Plan:
    """to: the conversion; axis: that which 2D kernels do not have (0 slices, 1 rows, 2 columns)."""

    to: To
    axis: int


@dataclass(frozen=True)
class Change:
    """How one layer is made into its 3D form.

    make     the new layer, from the old one and the copies of its tensors
    weight   how a state dict's weight changes with it, None where it stays
    note     for the report
    """

    make: Callable[[Any, Copies], nn.Module]
    weight: Inflation | None = None
    note: str = ""


Rule = Callable[[Any, Plan], Change]


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, plan: Plan) -> Change:
    if plan.to in KINDS:
        return _acs(layer, KINDS[plan.to])
    return _grown(inflated(layer, plan.axis) if plan.to == "i3d" else slicewise(layer, plan.axis))


def _acs(layer: nn.Conv2d | nn.ConvTranspose2d, kind: Kind) -> Change:
    def make(layer: nn.Conv2d | nn.ConvTranspose2d, copies: Copies) -> nn.Module:
        twin: Any = copies.twin(layer)
        made: Any
        if isinstance(layer, nn.Conv2d):
            twin.__class__ = nn.Conv2d  # of a subclass without a behaviour of its own
            made = ACSConv3d.from_conv2d(twin, kind)
        else:
            twin.__class__ = nn.ConvTranspose2d
            made = ACSConvTranspose3d.from_conv_transpose2d(twin, kind)
        # The very parameters, not copies of them: they may be tied to others.
        made.weight, made.bias = twin.weight, twin.bias
        return cast("nn.Module", made)

    try:
        _acs_like(layer, kind)
    except ValueError as error:
        raise UnsuitedError(str(error), "choose other settings, or another conversion") from None
    few = layer.out_channels < 3 and layer.kernel_size != (1, 1) and kind == "hard"
    unseen = "coronal and sagittal views" if layer.out_channels == 1 else "sagittal view"
    return Change(make, note=f"with {layer.out_channels} of three outputs it has no {unseen}" if few else "")


def _acs_like(layer: Any, kind: Kind) -> ACSConv3d | ACSConvTranspose3d:
    """A convolution of the same settings, without values."""
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    settings: dict[str, Any] = {name: getattr(layer, name) for name in names}
    settings |= {"bias": layer.bias is not None, "kind": kind, "device": "meta"}
    transposed = isinstance(layer, nn.ConvTranspose2d)
    if transposed:
        settings["output_padding"] = layer.output_padding
        return ACSConvTranspose3d(layer.in_channels, layer.out_channels, layer.kernel_size, **settings)
    return ACSConv3d(layer.in_channels, layer.out_channels, layer.kernel_size, **settings)


def _grown(grown: Grown) -> Change:
    def make(layer: Any, copies: Copies) -> nn.Module:
        made: Any = copies.of(grown.layer)
        made.weight, made.bias = copies.inflated(layer.weight, grown.inflation), copies.of(layer.bias)
        return cast("nn.Module", made.train(layer.training))

    return Change(make, grown.inflation)


def _same(to: type[nn.Module]) -> Rule:
    """For layers whose 3D class takes the same settings."""
    return lambda _layer, _plan: _renamed(to)


def _renamed(to: type[nn.Module], note: str = "", **changed: Any) -> Change:
    def make(layer: nn.Module, copies: Copies) -> nn.Module:
        twin = copies.twin(layer)
        twin.__class__ = to
        vars(twin).update(changed)
        return twin

    return Change(make, note=note)


_ONE = "choose one for both axes"


def _pooling(to: type[nn.Module], *settings: str) -> Rule:
    """For windows: the third axis gets what rows and columns both have."""

    def rule(layer: Any, _plan: Plan) -> Change:
        if getattr(layer, "divisor_override", None) is not None:
            raise UnsuitedError(
                f"its sum is divided by {layer.divisor_override}, and k x k x k values sum to more than k x k do",
                "leave divisor_override out",
            )
        changed: dict[str, Any] = {name: one(getattr(layer, name), name, _ONE) for name in settings}
        return _renamed(to, **changed)

    return rule


def _power_pooling(_layer: nn.LPPool2d, _plan: Plan) -> Change:
    raise UnsuitedError("it sums over its window, and k x k x k values sum to more than k x k do", "use AvgPool2d")


def _adaptive(to: type[nn.Module]) -> Rule:
    def rule(layer: Any, plan: Plan) -> Change:
        size = layer.output_size
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        if sides in ((1, 1), (None, None)):
            return _renamed(to, output_size=sides[0] if sides[0] else (None,) * 3)
        if None in sides:
            raise UnsuitedError(
                f"output size {sides} keeps one axis as it is and not the other", "name both sides or neither"
            )
        solid = list(sides)
        solid.insert(plan.axis, 1)
        note = f"one along {('slices', 'rows', 'columns')[plan.axis]}: the values that later layers have weights for"
        return _renamed(to, note, output_size=tuple(solid))

    return rule


def _upsampling(layer: nn.Upsample, _plan: Plan) -> Change:
    modes = {"bilinear": "trilinear", "nearest": "nearest", "nearest-exact": "nearest-exact"}
    if layer.mode not in modes:
        raise UnsuitedError(f"torch has no {layer.mode} interpolation of volumes", "use mode 'bilinear' or 'nearest'")
    changed: dict[str, Any] = {"mode": modes[layer.mode]}
    for name in ("scale_factor", "size"):
        if getattr(layer, name) is not None:
            changed[name] = one(getattr(layer, name), name, _ONE)
    return _renamed(nn.Upsample, "the third axis gets the same size" if "size" in changed else "", **changed)


def _padding(to: type[nn.Module]) -> Rule:
    def rule(layer: Any, _plan: Plan) -> Change:
        left, right, top, bottom = layer.padding
        if (left, right) != (top, bottom):
            raise UnsuitedError(
                f"padding {tuple(layer.padding)} differs between rows and columns and does not say what slices get",
                "pad both alike",
            )
        return _renamed(to, padding=(left, right) * 3)

    return rule


def _channel_softmax(_layer: nn.Softmax2d, _plan: Plan) -> Change:
    return _renamed(nn.Softmax, dim=1)


CHANGED: Mapping[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.BatchNorm2d: _same(nn.BatchNorm3d),
    nn.InstanceNorm2d: _same(nn.InstanceNorm3d),
    nn.Dropout2d: _same(nn.Dropout3d),
    nn.MaxPool2d: _pooling(nn.MaxPool3d, "kernel_size", "stride", "padding", "dilation"),
    nn.MaxUnpool2d: _pooling(nn.MaxUnpool3d, "kernel_size", "stride", "padding"),
    nn.AvgPool2d: _pooling(nn.AvgPool3d, "kernel_size", "stride", "padding"),
    nn.LPPool2d: _power_pooling,
    nn.AdaptiveAvgPool2d: _adaptive(nn.AdaptiveAvgPool3d),
    nn.AdaptiveMaxPool2d: _adaptive(nn.AdaptiveMaxPool3d),
    nn.Upsample: _upsampling,
    nn.UpsamplingNearest2d: _upsampling,
    nn.UpsamplingBilinear2d: _upsampling,
    nn.ZeroPad2d: _padding(nn.ZeroPad3d),
    nn.ConstantPad2d: _padding(nn.ConstantPad3d),
    nn.ReflectionPad2d: _padding(nn.ReflectionPad3d),
    nn.ReplicationPad2d: _padding(nn.ReplicationPad3d),
    nn.CircularPad2d: _padding(nn.CircularPad3d),
    nn.Softmax2d: _channel_softmax,
}
"""Class -> what becomes of it. Upsample is dimension-free in name only: its modes and sizes are not."""

_SHUFFLE = "it exchanges channels for rows and columns, and a volume has slices besides"
_RANDOM = "where its random windows lie along slices is nowhere said"
SOLID = ("it is three-dimensional already", "give a network that is two-dimensional throughout")
"""Reason and advice."""

REFUSED: Mapping[type[nn.Module], tuple[str, str]] = {
    nn.PixelShuffle: (_SHUFFLE, "use Upsample and a convolution"),
    nn.PixelUnshuffle: (_SHUFFLE, "use a strided convolution"),
    nn.Unfold: ("it cuts out squares of a plane", "use a convolution"),
    nn.Fold: ("it lays squares side by side in a plane", "use a transposed convolution"),
    nn.FractionalMaxPool2d: (_RANDOM, "use MaxPool2d"),
    nn.CrossMapLRN2d: ("torch knows it for planes only", "use LocalResponseNorm"),
    nn.DataParallel: ("it spreads a network over devices", "convert the network inside it"),
    nn.parallel.DistributedDataParallel: ("it spreads a network over processes", "convert the network inside it"),
    **dict.fromkeys(
        (
            *(nn.Conv3d, nn.ConvTranspose3d, ACSConv3d, ACSConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d),
            *(nn.Dropout3d, nn.MaxPool3d, nn.MaxUnpool3d, nn.AvgPool3d, nn.LPPool3d, nn.FractionalMaxPool3d),
            *(nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.ZeroPad3d, nn.ConstantPad3d, nn.ReflectionPad3d),
            *(nn.ReplicationPad3d, nn.CircularPad3d),
        ),
        SOLID,
    ),
}
"""Class -> why it cannot be carried into 3D, and what to do."""
