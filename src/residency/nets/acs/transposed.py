"""Transposed ACS convolution: a 2D transposed convolution's weights looking at a volume along all three axes.

The ACS paper (Yang et al., 2021, see `operator`) has none. As there, what is computed is by definition what the folded
3D transposed convolution computes (`fold`), the outputs are split, and without stride the flat axis has the plane in
the middle or half of each of the two beside it. With a stride one plane would leave planes of the answer empty, so
here the flat axis is interpolated as far as the kernel reaches: size 2, stride 2 repeats each plane; size 3, stride 2
puts the mean of two planes between them; size 4, stride 2, padding 1 repeats each plane. So a volume that is constant
along an axis is answered, away from its ends, as its slice is in 2D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.acs.geometry import Line, Piece, Triple, View, geometry, interpolation, pieces
from residency.nets.acs.kernels import copied, draw, flat, folded, mixed
from residency.nets.acs.settings import NO_SCRIPT, Kind, Pair, check_channels, checked_split, pair


class ACSConvTranspose3d(nn.Module):
    """Answers volumes (N, in_channels, S, R, C), or unbatched ones, with the weights of an `nn.ConvTranspose2d`.

    Arguments, and names and shapes of `weight` (in_channels, out_channels / groups, rows, columns) and `bias`, are
    those of `nn.ConvTranspose2d`, whose state dict loads strictly. Pairs are of (row, column); S and R take stride and
    output_padding from the rows, C from the columns. `kind` and `split` as of `ACSConv3d`.

    Raises ValueError for settings of which no such convolution can be made. `torch.jit.script` takes the folded form
    alone.
    """

    def __init__(  # noqa: PLR0917  (the arguments of nn.ConvTranspose2d)
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = "zeros",
        *,
        kind: Kind = "hard",
        split: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode '{padding_mode}': a transposed convolution has 'zeros' only")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.padding, self.dilation = pair("padding", padding, least=0), pair("dilation", dilation)
        self.output_padding = pair("output_padding", output_padding, least=0)
        self.padding_mode, self.kind = padding_mode, kind
        self.split = checked_split(kind, split, out_channels)
        rows, columns = (
            Line(size, stride, dilation, padding, padding)
            for size, stride, dilation, padding in zip(
                self.kernel_size, self.stride, self.dilation, self.padding, strict=True
            )
        )
        self._geometry = geometry(rows, columns, interpolation)
        self._more = (self.output_padding[0], *self.output_padding)
        for more, axis in zip(self._more, self._geometry.axes, strict=True):
            if more >= max(axis.stride, axis.dilation):
                raise ValueError(f"output_padding {self.output_padding} must be smaller than stride or dilation")
        self._pieces = pieces(self.split, in_channels, groups) if self.split else ()
        views = self._geometry.views
        looks = max(view.taps for view in views) * (1 if self.split else 3)
        # a view alone cannot answer beyond what its own kernel reaches
        self._dense = self._geometry.taps <= looks or min(min(view.padding) for view in views) < 0
        made = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels // groups, *self.kernel_size, **made))  # type: ignore[arg-type]
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **made)) if bias else None)  # type: ignore[arg-type]
        self._learns_views = kind == "soft" and self._geometry.taps > 1
        if self._learns_views:
            self.view_logits = nn.Parameter(torch.empty(out_channels, 3, **made))  # type: ignore[arg-type]
        self.reset_parameters()

    @classmethod
    def from_conv_transpose2d(
        cls, conv: nn.ConvTranspose2d, kind: Kind = "hard", split: Sequence[int] | None = None
    ) -> Self:
        """The same convolution in three views, with copies of its parameters, frozen where they are, and its mode.

        Raises TypeError for a class derived from `nn.ConvTranspose2d`, which may compute anything, and ValueError as
        the class.
        """
        if type(conv) is not nn.ConvTranspose2d:
            raise TypeError(f"an nn.ConvTranspose2d itself is wanted, not a {type(conv).__name__}")
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.output_padding,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.dilation,  # type: ignore[arg-type]
            conv.padding_mode,
            kind=kind,
            split=split,
            device="meta",
        )
        made.weight = copied(conv.weight)
        made.bias = None if conv.bias is None else copied(conv.bias)
        if made._learns_views:
            even = torch.zeros(conv.out_channels, 3, device=conv.weight.device, dtype=conv.weight.dtype)
            made.view_logits = nn.Parameter(even, requires_grad=conv.weight.requires_grad)
        return made.train(conv.training)

    def reset_parameters(self) -> None:
        """Weights and bias as `nn.ConvTranspose2d` draws them; mixtures even."""
        draw(self.weight, self.bias)
        if self._learns_views:
            nn.init.zeros_(self.view_logits)

    def fold(self) -> nn.ConvTranspose3d:
        """The 3D transposed convolution that computes the same, with parameters of its own."""
        made = nn.ConvTranspose3d(
            self.in_channels,
            self.out_channels,
            self._geometry.sizes,
            self._geometry.strides,
            self._geometry.before,
            self._more,
            self.groups,
            dilation=self._geometry.dilations,
            device="meta",
        )
        made.weight = nn.Parameter(self._kernel().detach().clone(), requires_grad=self.weight.requires_grad)
        made.bias = None if self.bias is None else copied(self.bias)
        return made.train(self.training)

    def forward(self, image: Tensor) -> Tensor:
        if self._dense:
            padding, dilation = self._geometry.before, self._geometry.dilations
            return self._convolve(image, self._kernel(), self.bias, padding, dilation, self.groups)
        weight = _by_output(self.weight, self.groups)
        if self.split:
            return torch.cat([self._piece(image, weight, piece) for piece in self._pieces], dim=-4)
        first, second, third = (
            self._look(image, view, part, None if view.flat else self.bias, self.groups)
            for view, part in zip(self._geometry.views, mixed(weight, self._shares()), strict=True)
        )
        return first + second + third

    def __prepare_scriptable__(self) -> Self:
        raise NotImplementedError(NO_SCRIPT)

    def extra_repr(self) -> str:
        settings = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "groups": 1, "dilation": (1, 1)}
        changed = "".join(f", {key}={value!r}" for key in settings if (value := getattr(self, key)) != settings[key])
        views = f"split={self.split}" if self.split else f"kind={self.kind!r}"
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{changed}{bias}, {views}"

    def _piece(self, image: Tensor, weight: Tensor, piece: Piece) -> Tensor:
        bias = None if self.bias is None else self.bias[piece.first : piece.last]
        if piece.stop - piece.start < self.in_channels:
            image = image[..., piece.start : piece.stop, :, :, :]
        part = weight[piece.first : piece.last]
        return self._look(image, self._geometry.views[piece.view], part, bias, piece.groups)

    def _look(self, image: Tensor, view: View, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return self._convolve(image, _by_input(flat(weight, view), groups), bias, view.padding, view.dilation, groups)

    def _convolve(
        self, image: Tensor, kernel: Tensor, bias: Tensor | None, padding: Triple, dilation: Triple, groups: int
    ) -> Tensor:
        return functional.conv_transpose3d(
            image, kernel, bias, self._geometry.strides, padding, self._more, groups, dilation
        )

    def _shares(self) -> Tensor | None:
        return self.view_logits.softmax(dim=1) if self._learns_views else None

    def _kernel(self) -> Tensor:
        """The folded kernel (in_channels, out_channels / groups, S, R, C)."""
        weight = _by_output(self.weight, self.groups)
        return _by_input(folded(weight, self._geometry, self.split, self._shares()), self.groups)


def _by_output(weight: Tensor, groups: int) -> Tensor:
    """(inputs, outputs / groups, ...) as (outputs, inputs / groups, ...)."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # type: ignore[no-untyped-call, no-any-return]


_by_input = _by_output
"""The way back is the same: within each group the two axes change places."""
