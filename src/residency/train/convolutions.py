"""Convolutions of one small volume at a time, computed by oneDNN as those of a batch are.

torch hands a convolution on the CPU to oneDNN where the batch has several images or the input is large, else to a loop
of its own that unrolls the volume: for the coarse levels of a U-Net that takes two to three times as long. Training
gives each thread one crop, so that is what it would meet. Here the same sums go to oneDNN: the answer and the gradient
of the input directly, that of the weights as for a batch of two half volumes, which torch does hand over.

The results differ from torch's by rounding alone, and repeat themselves bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Triple = tuple[int, int, int]

_ONE: Triple = (1, 1, 1)
_OWN_LOOP_UP_TO = 20_480
"""Batch x channels x slices x rows at which torch still prefers its own loop (aten/native/Convolution.cpp)."""


class SmallConvolutions(TorchFunctionMode):
    """A context, of the thread that enters it, in which `torch.conv3d` of one small volume is oneDNN's.

    Every other call is torch's own: of several or large volumes, in groups, dilated, of side 1, in another precision or
    on another device.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv3d and not kwargs and len(args) == 7 and _left_to_the_loop(*args):
            image, weight, bias, stride, padding, *_ = args
            taken: Any = _Convolution.apply
            return taken(image, weight, bias, _triple(stride), _triple(padding))
        return func(*args, **(kwargs or {}))


def _left_to_the_loop(
    image: Tensor, weight: Tensor, _bias: Tensor | None, _stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """True if torch would compute it by its own loop, and it can be computed here."""
    return (
        image.ndim == 5
        and image.shape[0] == 1
        and image.shape[1] * image.shape[2] * image.shape[3] <= _OWN_LOOP_UP_TO
        and image.dtype == weight.dtype == torch.float32
        and image.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not isinstance(padding, str)
        and _triple(dilation) == _ONE
        and groups == 1
        and max(weight.shape[2:]) > 1
        and all(pad < side for pad, side in zip(_triple(padding), weight.shape[2:], strict=True))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


class _Convolution(torch.autograd.Function):
    """Image (1, channels, S, R, C), weight (features, channels, *sides), bias (features,) or None."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple
    ) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.biased, ctx.stride, ctx.padding = bias is not None, stride, padding
        return _by_onednn(image, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        of_weight, of_bias = _of_weight(gradient, image, weight, ctx.stride, ctx.padding, biased=ctx.biased)
        of_image = None
        if ctx.needs_input_grad[0]:
            of_image = _of_image(gradient, image, weight, ctx.stride, ctx.padding)
        return of_image, of_weight, of_bias, None, None


def _of_image(gradient: Tensor, image: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Without strides: the convolution of the gradient with the mirrored weights, inputs and outputs exchanged."""
    if stride != _ONE:
        found = torch.ops.aten.convolution_backward(
            gradient, image, weight, None, stride, padding, _ONE, False, (0, 0, 0), 1, (True, False, False)
        )
        return cast("Tensor", found[0])
    mirrored = weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=torch.channels_last_3d)
    around = [side - 1 - pad for side, pad in zip(weight.shape[2:], padding, strict=True)]
    return _by_onednn(gradient, mirrored, None, _ONE, _triple(around))


def _of_weight(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: Triple, padding: Triple, *, biased: bool
) -> tuple[Tensor, Tensor | None]:
    """Of weights and bias, as for a batch of the upper and the lower half: each half with the slices that it sees.

    An odd number of slices is made even by one without a gradient.
    """
    slices = -(-gradient.shape[2] // 2)
    seen = (slices - 1) * stride[0] + weight.shape[2]
    below = max(0, slices * stride[0] + seen - image.shape[2] - padding[0])
    padded = torch.nn.functional.pad(image, (0, 0, 0, 0, padding[0], below))
    images = torch.cat([padded[:, :, at : at + seen] for at in (0, slices * stride[0])])
    even = torch.nn.functional.pad(gradient, (0, 0, 0, 0, 0, 2 * slices - gradient.shape[2]))
    gradients = torch.cat([even[:, :, :slices], even[:, :, slices:]])
    _, of_weight, of_bias = torch.ops.aten.convolution_backward(
        gradients.contiguous(memory_format=torch.channels_last_3d),
        images.contiguous(memory_format=torch.channels_last_3d),
        weight,
        [weight.shape[0]] if biased else None,
        stride,
        (0, *padding[1:]),
        _ONE,
        False,
        (0, 0, 0),
        1,
        (False, True, biased),
    )
    return of_weight, of_bias


def _by_onednn(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, _ONE, 1)


def _triple(value: Any) -> Triple:
    """What torch takes for three axes: one number or three."""
    if isinstance(value, int):
        return (value, value, value)
    first, second, third = list(value) * (3 if len(value) == 1 else 1)
    return (first, second, third)
