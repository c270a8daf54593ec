"""A net's answer to one crop, and its gradients, with the channels last in memory throughout, on one thread.

Training gives each thread one crop, and for that torch chooses badly on a CPU. Small convolutions it computes by a loop
of its own, at a third of oneDNN's pace; instance normalisation and transposed convolution exchange the layout, and
every neighbour pays for it. Here

- a convolution and the gradient of its input are oneDNN's, whatever the size; so is the gradient of the weights of a
  large one, and that of a small one is a product of matrices;
- a transposed convolution whose kernel is its stride is one product of matrices: each voxel becomes a block;
- instance normalisation is written out, with sums that torch takes in parts. (Its batch normalisation of one image
  would be the same, but with the channels last it adds all voxels of a channel one by one in f32: of 128 x 128 x 128
  voxels, half of them background, the gradient of its weights was wrong by more than itself.)

The results differ from torch's by rounding alone, and repeat themselves bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Triple = tuple[int, int, int]

_ONE: Triple = (1, 1, 1)
_LAST = torch.channels_last_3d
_VOXELS = (0, 2, 3, 4)
"""Axes of one volume but its channels."""
_OWN_LOOP_UP_TO = 20_480
"""Channels x slices x rows of one volume at which torch prefers its own loop (aten/native/Convolution.cpp)."""
_SLICES = 4
"""At a time: what their voxels saw is the input once for every place of the kernel, and should stay in the cache."""


class ChannelsLast(TorchFunctionMode):
    """A context, of the thread that enters it, in which layers of one volume are computed as told above.

    Every other call is torch's own: of several volumes, of slices, in groups, dilated, with kernels of side 1, with
    statistics that are kept, in another precision or on another device.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        taken: Any = None
        if func is torch.conv3d and not given and len(args) == 7:
            taken = _convolved(*args)
        elif func is torch.conv_transpose3d and not given and len(args) == 8:
            taken = _grown(*args)
        elif func is functional.instance_norm and len(args) == 1:
            taken = _normed(args[0], given)
        return func(*args, **given) if taken is None else taken


def _is_one_volume(image: Tensor, weight: Tensor) -> bool:
    return (
        image.ndim == 5
        and image.shape[0] == 1
        and image.dtype == weight.dtype == torch.float32
        and image.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def _convolved(image: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor | None:
    """As `torch.conv3d`; None where it is left to torch."""
    stride, padding, dilation, groups = how
    if not (
        _is_one_volume(image, weight)
        and not isinstance(padding, str)
        and _triple(dilation) == _ONE
        and groups == 1
        and max(weight.shape[2:]) > 1
        and all(pad < side for pad, side in zip(_triple(padding), weight.shape[2:], strict=True))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    ):
        return None
    made: Any = _Convolution.apply
    return cast("Tensor", made(image, weight, bias, _triple(stride), _triple(padding)))


def _grown(image: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor | None:
    """As `torch.conv_transpose3d`; None where it is left to torch."""
    stride, padding, output_padding, groups, dilation = how
    if not (
        _is_one_volume(image, weight)
        and _triple(stride) == tuple(weight.shape[2:])
        and _triple(padding) == _triple(output_padding) == (0, 0, 0)
        and groups == 1
        and _triple(dilation) == _ONE
    ):
        return None
    channels, features, *sides = weight.shape
    slices, rows, columns = image.shape[2:]
    blocks = _voxels(image) @ weight.permute(0, 2, 3, 4, 1).reshape(channels, -1)
    apart = blocks.reshape(slices, rows, columns, *sides, features).permute(0, 3, 1, 4, 2, 5, 6)
    whole = apart.reshape(1, slices * sides[0], rows * sides[1], columns * sides[2], features)
    return (whole if bias is None else whole + bias).permute(0, 4, 1, 2, 3)


def _normed(image: Tensor, given: Mapping[str, Any]) -> Tensor | None:
    """As `functional.instance_norm`; None where it is left to torch."""
    weight = given["weight"]
    if not (
        weight is not None
        and given["bias"] is not None
        and _is_one_volume(image, weight)
        and given["running_mean"] is given["running_var"] is None
        and given["use_input_stats"]
        and image[0, 0].numel() > 1  # else torch says what is wrong
    ):
        return None
    made: Any = _InstanceNorm.apply
    return cast("Tensor", made(image, weight, given["bias"], given["eps"]))


class _Convolution(torch.autograd.Function):
    """Image (1, channels, S, R, C), weight (features, channels, *sides), bias (features,) or None."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple
    ) -> Tensor:
        image = image.contiguous(memory_format=_LAST)
        ctx.save_for_backward(image, weight)
        ctx.stride, ctx.padding = stride, padding
        return _by_onednn(image, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        of_answer = gradients[0].contiguous(memory_format=_LAST)
        of_image, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            _of_image(of_answer, image, weight, ctx.stride, ctx.padding) if of_image else None,
            _of_weight(of_answer, image, weight, ctx.stride, ctx.padding) if of_weight else None,
            of_answer.sum(_VOXELS) if of_bias else None,
            None,
            None,
        )


class _InstanceNorm(torch.autograd.Function):
    """Image (1, channels, S, R, C), weight and bias (channels,). Sums over a volume are taken in parts, by torch."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        centred = image.contiguous(memory_format=_LAST)
        centred = centred - centred.mean(_VOXELS, keepdim=True)
        inverse = (centred.square().mean(_VOXELS) + epsilon).rsqrt()
        ctx.save_for_backward(centred, weight, inverse, centred.mean(_VOXELS))  # the last is 0 but for rounding
        return torch.addcmul(_along(bias), centred, _along(weight * inverse))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        centred, weight, inverse, rest = ctx.saved_tensors
        of_answer, voxels = gradients[0].contiguous(memory_format=_LAST), centred[0, 0].numel()
        of_bias = of_answer.sum(_VOXELS)
        together = (of_answer * centred).sum(_VOXELS) - of_bias * rest
        of_image = torch.addcmul(
            of_answer - _along(of_bias / voxels), centred, _along(together * inverse.square() / -voxels)
        )
        return of_image.mul_(_along(weight * inverse)), together * inverse, of_bias, None


def _of_image(of_answer: Tensor, image: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Without strides: the convolution of the gradient with the mirrored weights, inputs and outputs exchanged."""
    if stride != _ONE:
        return _by_torch((of_answer, image, weight), stride, padding, (True, False, False))
    mirrored = weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=_LAST)
    around = [side - 1 - pad for side, pad in zip(weight.shape[2:], padding, strict=True)]
    return _by_onednn(of_answer, mirrored, None, _ONE, _triple(around))


def _of_weight(of_answer: Tensor, image: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Of a large image as torch has it; of a small one all that each voxel of the answer saw times its gradient."""
    features, channels, *sides = weight.shape
    if channels * image.shape[2] * image.shape[3] > _OWN_LOOP_UP_TO:
        return _by_torch((of_answer, image, weight), stride, padding, (False, True, False))
    taught = of_answer[0].permute(1, 2, 3, 0)
    around = [pad for axis in (2, 1, 0) for pad in (padding[axis], padding[axis])]
    windows = functional.pad(image[0].contiguous(), around)
    for axis, (side, step) in enumerate(zip(sides, stride, strict=True), start=1):
        windows = windows.unfold(axis, side, step)
    by_place = windows.permute(0, 4, 5, 6, 1, 2, 3)
    found = weight.new_zeros(channels * sides[0] * sides[1] * sides[2], features)
    for first in range(0, taught.shape[0], _SLICES):
        of_these = slice(first, first + _SLICES)
        columns = by_place[:, :, :, :, of_these].reshape(len(found), -1)
        found.addmm_(columns, taught[of_these].reshape(-1, features))
    return found.t().reshape(weight.shape)


def _voxels(image: Tensor) -> Tensor:
    """Of one volume: voxels x channels."""
    return image[0].permute(1, 2, 3, 0).reshape(-1, image.shape[1])


def _along(of_channels: Tensor) -> Tensor:
    """Numbers (channels,) beside a volume."""
    return of_channels.view(1, -1, 1, 1, 1)


def _by_torch(tensors: Sequence[Tensor], stride: Triple, padding: Triple, asked: tuple[bool, bool, bool]) -> Tensor:
    """The gradient of the one that is asked for: image, weight or bias."""
    found = torch.ops.aten.convolution_backward(*tensors, None, stride, padding, _ONE, False, (0, 0, 0), 1, asked)
    return cast("Tensor", found[asked.index(True)])


def _by_onednn(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, _ONE, 1)


def _triple(value: Any) -> Triple:
    """What torch takes for three axes: one number or three."""
    if isinstance(value, int):
        return (value, value, value)
    first, second, third = list(value) * (3 if len(value) == 1 else 1)
    return (first, second, third)
