"""Convolutions of one crop at a time, on one thread, faster than torch computes them.

Training gives each thread one crop. torch hands a convolution on the CPU to oneDNN where the batch has several images
or the input is large, else to a loop of its own that unrolls the volume: for the coarse levels of a U-Net that takes
two to three times as long. Here these go to oneDNN too: the answer and the gradient of the input directly, that of the
weights as for a batch of two half volumes, which torch does hand over.

What torch does hand over, oneDNN answers well, but it takes the gradient of the weights at a third of that pace. Here
it is a sum of products of matrices, each of the gradient and of the input shifted to one place of the kernel, a few
slices at a time so that they stay in the cache.

The results differ from torch's by rounding alone, and repeat themselves bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Triple = tuple[int, int, int]

_ONE: Triple = (1, 1, 1)
_LAST = torch.channels_last_3d
_OWN_LOOP_UP_TO = 20_480
"""Batch x channels x slices x rows at which torch still prefers its own loop (aten/native/Convolution.cpp)."""
_FEWEST_CHANNELS = 8
"""Of a large volume: with fewer, the matrices are too narrow to gain anything."""
_SLICES = 4
"""Whose gradient and input, of some ten channels, stay in the cache together."""


class CropConvolutions(TorchFunctionMode):
    """A context, of the thread that enters it, in which `torch.conv3d` of one volume is computed as told above.

    Every other call is torch's own: of several volumes, of large ones with strides or few channels, in groups, dilated,
    of side 1, in another precision or on another device.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv3d and not kwargs and len(args) == 7 and _is_taken(*args):
            image, weight, bias, stride, padding, *_ = args
            taken: Any = _Convolution.apply
            return taken(image, weight, bias, _triple(stride), _triple(padding))
        return func(*args, **(kwargs or {}))


def _is_taken(
    image: Tensor, weight: Tensor, _bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """True if it can be computed here, and is faster for it."""
    return (
        image.ndim == 5
        and image.shape[0] == 1
        and image.dtype == weight.dtype == torch.float32
        and image.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not isinstance(padding, str)
        and _triple(dilation) == _ONE
        and groups == 1
        and max(weight.shape[2:]) > 1
        and all(pad < side for pad, side in zip(_triple(padding), weight.shape[2:], strict=True))
        and (_is_small(image) or (_triple(stride) == _ONE and min(weight.shape[:2]) >= _FEWEST_CHANNELS))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def _is_small(image: Tensor) -> bool:
    """True if torch would compute its convolution by its own loop."""
    return image.shape[1] * image.shape[2] * image.shape[3] <= _OWN_LOOP_UP_TO


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
        small = _is_small(image)
        form = _LAST if small else torch.contiguous_format
        gradient = gradients[0].contiguous(memory_format=form)
        way = _of_weight_by_halves if small else _of_weight_by_products
        of_weight = way(gradient, image, weight, ctx.stride, ctx.padding)
        of_bias = gradient.sum((0, 2, 3, 4)) if ctx.biased else None
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
    form = torch.contiguous_format if gradient.is_contiguous() else _LAST
    mirrored = weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=form)
    around = [side - 1 - pad for side, pad in zip(weight.shape[2:], padding, strict=True)]
    return _by_onednn(gradient, mirrored, None, _ONE, _triple(around))


def _of_weight_by_halves(gradient: Tensor, image: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """As for a batch of the upper and the lower half: each half with the slices that it sees.

    An odd number of slices is made even by one without a gradient.
    """
    slices = -(-gradient.shape[2] // 2)
    seen = (slices - 1) * stride[0] + weight.shape[2]
    below = max(0, slices * stride[0] + seen - image.shape[2] - padding[0])
    padded = torch.nn.functional.pad(image, (0, 0, 0, 0, padding[0], below))
    images = torch.cat([padded[:, :, at : at + seen] for at in (0, slices * stride[0])])
    even = torch.nn.functional.pad(gradient, (0, 0, 0, 0, 0, 2 * slices - gradient.shape[2]))
    gradients = torch.cat([even[:, :, :slices], even[:, :, slices:]])
    _, of_weight, _ = torch.ops.aten.convolution_backward(
        gradients.contiguous(memory_format=_LAST),
        images.contiguous(memory_format=_LAST),
        weight,
        None,
        stride,
        (0, *padding[1:]),
        _ONE,
        False,
        (0, 0, 0),
        1,
        (False, True, False),
    )
    return cast("Tensor", of_weight)


def _of_weight_by_products(gradient: Tensor, image: Tensor, weight: Tensor, _stride: Triple, padding: Triple) -> Tensor:
    """Without strides: for each place of the kernel gradient (features, voxels) times shifted input (voxels, channels).

    Both lie in memory as padded slices, one after the other, so that a shift is an offset there; what the gradient has
    of the padding is 0. The places one above the other differ by a whole slice, and are one batch.
    """
    features, channels, *sides = weight.shape
    slices, rows, columns = gradient.shape[2:]
    around = [pad for axis in (2, 1, 0) for pad in (padding[axis], padding[axis])]
    seen = torch.nn.functional.pad(image[0], around).reshape(channels, -1)
    widened = torch.nn.functional.pad(gradient[0], (0, sides[2] - 1, 0, sides[1] - 1)).reshape(features, -1)
    a_row = columns + sides[2] - 1
    a_slice = (rows + sides[1] - 1) * a_row
    last = (sides[1] - 1) * a_row + sides[2] - 1  # of the padding behind the last slice, where a shift would run out
    found = weight.new_zeros(sides[1], sides[2], sides[0], features, channels)
    for first in range(0, slices, _SLICES):
        voxels = min(_SLICES, slices - first) * a_slice - last
        taught = widened[:, first * a_slice :][:, :voxels].expand(sides[0], features, voxels)
        for row, column in product(range(sides[1]), range(sides[2])):
            offset = first * a_slice + row * a_row + column
            shifted = seen.as_strided((sides[0], voxels, channels), (a_slice, 1, seen.shape[1]), offset)
            found[row, column].baddbmm_(taught, shifted)
    return found.permute(3, 4, 2, 0, 1)


def _by_onednn(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, _ONE, 1)


def _triple(value: Any) -> Triple:
    """What torch takes for three axes: one number or three."""
    if isinstance(value, int):
        return (value, value, value)
    first, second, third = list(value) * (3 if len(value) == 1 else 1)
    return (first, second, third)
