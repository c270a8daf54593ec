"""2D kernels made into 3D ones that belong to no ACS convolution: the baselines.

inflate     every kernel repeated along one axis and divided, as Carreira and Zisserman, "Quo vadis, action
            recognition?", CVPR 2017 (I3D): a volume that is constant along that axis is answered as its slice is in
            2D, away from the borders of the axis
slicewise   kernels one slice thick: each slice by itself, but for strides and pooling, which act on all three axes.
            (Yang et al., "Reinventing 2D convolutions for 3D images", 2021, call this 2.5D; others call 2.5D what is
            `adjacent slices` here)

`axis` is that which the 2D kernel does not have: 0 slices, 1 rows, 2 columns of a volume (N, C, S, R, C). What was
(row, column) lies on the other two, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from residency.nets.acs.report import UnsuitedError


@dataclass(frozen=True)
class Inflation:
    """How a weight (outputs, inputs, rows, columns) becomes one of five dimensions: `repeats` copies times `factor`."""

    axis: int
    repeats: int
    factor: float

    def __call__(self, weight: Tensor) -> Tensor:
        """A new tensor; the 2D one stays as it is."""
        thick = weight.unsqueeze(self.axis + 2)
        sizes = [1] * thick.ndim
        sizes[self.axis + 2] = self.repeats
        return thick.repeat(sizes) * self.factor


@dataclass(frozen=True)
class Grown:
    """A 3D layer without weights (on the meta device), and how its weight comes from the 2D one."""

    layer: nn.Conv3d | nn.ConvTranspose3d
    inflation: Inflation


def inflated(layer: nn.Conv2d | nn.ConvTranspose2d, axis: int) -> Grown:
    """The I3D form. Raises UnsuitedError where row and column differ: the third axis cannot tell which to follow."""
    size, stride = one(layer.kernel_size, "kernel"), one(layer.stride, "stride")
    dilation = one(layer.dilation, "dilation")
    if isinstance(layer, nn.Conv2d):
        return Grown(_convolution(layer, size, stride, dilation, _padding(layer)), Inflation(axis, size, 1 / size))
    if dilation != 1 or size % stride:
        raise UnsuitedError(
            f"repeated along an axis, a transposed kernel of {size} with stride {stride} and dilation {dilation} "
            "reaches some voxels more often than others",
            "use a kernel that is a multiple of the stride, without dilation",
        )
    padding = one(layer.padding, "padding")
    grown = _transposed(layer, size, stride, padding, one(layer.output_padding, "output padding"))
    return Grown(grown, Inflation(axis, size, stride / size))


def slicewise(layer: nn.Conv2d | nn.ConvTranspose2d, axis: int) -> Grown:
    """The form one slice thick. Raises UnsuitedError where row and column have different strides."""
    stride = one(layer.stride, "stride")
    if isinstance(layer, nn.Conv2d):
        flat = _padding(layer) if isinstance(layer.padding, str) else _with(axis, 0, layer.padding)
        sizes = _with(axis, 1, layer.kernel_size)
        return Grown(_convolution(layer, sizes, stride, _with(axis, 1, layer.dilation), flat), Inflation(axis, 1, 1.0))
    beyond = {
        d * (k - 1) + 1 - s - 2 * p + o  # type: ignore[operator]
        for k, s, p, d, o in zip(
            layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.output_padding, strict=True
        )
    }
    if beyond != {0}:
        raise UnsuitedError(
            f"it does not multiply the sides of the grid by its stride {stride}: slices cannot follow rows and columns",
            "choose its padding so that sides are multiplied by the stride",
        )
    grown = _transposed(
        layer,
        _with(axis, stride, layer.kernel_size),
        stride,
        _with(axis, 0, layer.padding),
        _with(axis, 0, layer.output_padding),
        _with(axis, 1, layer.dilation),
    )
    return Grown(grown, Inflation(axis, stride, 1.0))


def one(value: Any, what: str, advice: str = "convert to acs, or choose one for both axes") -> int:
    """The one value of a pair. Raises UnsuitedError where it has two."""
    values = value if isinstance(value, tuple | list) else (value,)
    if len(set(values)) != 1:
        raise UnsuitedError(f"{what} {tuple(values)} does not say what happens along the third axis", advice)
    found: int = values[0]
    return found


def _with(axis: int, value: int, pair: Sequence[Any]) -> tuple[Any, ...]:
    first, second = pair
    rest = [first, second]
    rest.insert(axis, value)
    return tuple(rest)


def _padding(layer: nn.Conv2d) -> int | str:
    return layer.padding if isinstance(layer.padding, str) else one(layer.padding, "padding")


def _convolution(layer: nn.Conv2d, size: Any, stride: Any, dilation: Any, padding: Any) -> nn.Conv3d:
    return nn.Conv3d(
        layer.in_channels,
        layer.out_channels,
        size,
        stride,
        padding,
        dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
        device="meta",
    )


def _transposed(
    layer: nn.ConvTranspose2d, size: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any = 1
) -> nn.ConvTranspose3d:
    return nn.ConvTranspose3d(
        layer.in_channels,
        layer.out_channels,
        size,
        stride,
        padding,
        output_padding,
        layer.groups,
        layer.bias is not None,
        dilation,
        layer.padding_mode,
        device="meta",
    )
