"""ACS convolution: a 2D convolution's weights looking at a volume along all three axes.

After Yang et al., "Reinventing 2D convolutions for 3D images", IEEE Journal of Biomedical and Health Informatics 2021
(doi 10.1109/JBHI.2021.3049452): hard (the outputs are split into axial, coronal and sagittal ones), soft (every output
is a learned mixture of the three views) and mean (an even mixture). What is computed is by definition what the folded
3D convolution computes (`fold`): kernels of the size of a cube, empty but for the planes of the views.

Beyond the paper: groups of any number, kernels and strides that differ by axis (see `geometry` for what the axes get),
every padding, even kernels. A kernel of even size has no plane in the middle; here half of its weights lie on each of
the two planes beside the middle. So all views look at the same place, whatever the size of the image, and a volume that
is constant along an axis is answered as its slice is in 2D; one plane alone would put the views half a voxel apart.
Soft mixtures start even, not at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.acs.geometry import Line, Piece, View, centre, geometry, pieces
from residency.nets.acs.kernels import copied, draw, flat, folded, mixed
from residency.nets.acs.settings import NO_SCRIPT, Kind, Pair, check_channels, checked_split, pair

__all__ = ["ACSConv3d", "Kind"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class ACSConv3d(nn.Module):
    """Answers volumes (N, in_channels, S, R, C), or unbatched ones, with the weights of an `nn.Conv2d`.

    Arguments, and names and shapes of `weight` (out_channels, in_channels / groups, rows, columns) and `bias`, are
    those of `nn.Conv2d`, whose state dict loads strictly. Pairs are of (row, column).

    kind   "hard"; "soft", which has a parameter `view_logits` (out_channels, 3) besides, unless the kernel is a single
           tap, which looks alike from everywhere; or "mean"
    split  of the outputs into (axial, coronal, sagittal), of kind "hard" only; thirds if left out. One output is
           axial alone, two are never sagittal: give a head of so few a kernel of 1

    Raises ValueError for settings of which no such convolution can be made. `torch.jit.script` takes the folded form
    alone.
    """

    def __init__(  # noqa: PLR0917  (the arguments of nn.Conv2d)
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        kind: Kind = "hard",
        split: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode '{padding_mode}' is none of {', '.join(PADDING_MODES)}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.dilation = pair("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else pair("padding", padding, least=0)
        self.padding_mode, self.kind = padding_mode, kind
        self.split = checked_split(kind, split, out_channels)
        self._geometry = geometry(*self._lines(), centre, padded=padding_mode != "zeros")
        self._pieces = pieces(self.split, in_channels, groups) if self.split else ()
        looks = max(view.taps for view in self._geometry.views) * (1 if self.split else 3)
        self._dense = self._geometry.taps <= looks  # then one convolution costs no more than several
        made = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size, **made))  # type: ignore[arg-type]
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **made)) if bias else None)  # type: ignore[arg-type]
        self._learns_views = kind == "soft" and self._geometry.taps > 1
        if self._learns_views:
            self.view_logits = nn.Parameter(torch.empty(out_channels, 3, **made))  # type: ignore[arg-type]
        self.reset_parameters()

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, kind: Kind = "hard", split: Sequence[int] | None = None) -> Self:
        """The same convolution in three views, with copies of its parameters, frozen where they are, and its mode.

        Raises TypeError for a class derived from `nn.Conv2d`, which may compute anything, and ValueError as the class.
        """
        if type(conv) is not nn.Conv2d:
            raise TypeError(f"an nn.Conv2d itself is wanted, not a {type(conv).__name__}")
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
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
        """Weights and bias as `nn.Conv2d` draws them: a plane has as many taps as the kernel. Mixtures even."""
        draw(self.weight, self.bias)
        if self._learns_views:
            nn.init.zeros_(self.view_logits)

    def fold(self) -> nn.Conv3d:
        """The 3D convolution that computes the same, with parameters of its own."""
        even = self._geometry.around[0::2] == self._geometry.around[1::2]
        made = nn.Conv3d(
            self.in_channels,
            self.out_channels,
            self._geometry.sizes,
            self._geometry.strides,
            self._geometry.before if even else "same",
            self._geometry.dilations,
            self.groups,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]
            device="meta",
        )
        made.weight = nn.Parameter(self._kernel().detach().clone(), requires_grad=self.weight.requires_grad)
        made.bias = None if self.bias is None else copied(self.bias)
        return made.train(self.training)

    def forward(self, image: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            image = functional.pad(image, self._geometry.around, mode=self.padding_mode)
        elif any(self._geometry.beyond):
            image = functional.pad(image, self._geometry.beyond)
        if self._dense:
            padding = (0, 0, 0) if self.padding_mode != "zeros" else self._geometry.before
            return functional.conv3d(
                image, self._kernel(), self.bias, self._geometry.strides, padding, self._geometry.dilations, self.groups
            )
        if self.split:
            return torch.cat([self._piece(image, piece) for piece in self._pieces], dim=-4)
        weights = mixed(self.weight, self._shares())
        first, second, third = (
            self._look(image, view, weight, None if view.flat else self.bias, self.groups)
            for view, weight in zip(self._geometry.views, weights, strict=True)
        )
        return first + second + third

    def __prepare_scriptable__(self) -> Self:
        raise NotImplementedError(NO_SCRIPT)

    def extra_repr(self) -> str:
        settings = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
        changed = "".join(f", {key}={value!r}" for key in settings if (value := getattr(self, key)) != settings[key])
        views = f"split={self.split}" if self.split else f"kind={self.kind!r}"
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{changed}{bias}, {views}"

    def _lines(self) -> tuple[Line, Line]:
        rows, columns = zip(self.kernel_size, self.stride, self.dilation, strict=True)
        if self.padding in ("same", "valid"):
            if self.padding == "same" and self.stride != (1, 1):
                raise ValueError("padding 'same' is not for strided convolutions")
            reaches = [dilation * (size - 1) if self.padding == "same" else 0 for size, _, dilation in (rows, columns)]
            padding = [(reach // 2, reach - reach // 2) for reach in reaches]
        elif isinstance(self.padding, str):
            raise ValueError(f"padding '{self.padding}' is neither 'same' nor 'valid' nor a number")
        else:
            padding = [(side, side) for side in self.padding]
        return Line(*rows, *padding[0]), Line(*columns, *padding[1])

    def _piece(self, image: Tensor, piece: Piece) -> Tensor:
        bias = None if self.bias is None else self.bias[piece.first : piece.last]
        if piece.stop - piece.start < self.in_channels:
            image = image[..., piece.start : piece.stop, :, :, :]
        weight = self.weight[piece.first : piece.last]
        return self._look(image, self._geometry.views[piece.view], weight, bias, piece.groups)

    def _look(self, image: Tensor, view: View, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        if min(view.padding) < 0:
            crops = [slice(-padding, padding) if padding < 0 else slice(None) for padding in view.padding]
            image = image[(..., *crops)]
        padding = [max(padding, 0) for padding in view.padding]
        return functional.conv3d(
            image, flat(weight, view), bias, self._geometry.strides, padding, view.dilation, groups
        )

    def _shares(self) -> Tensor | None:
        return self.view_logits.softmax(dim=1) if self._learns_views else None

    def _kernel(self) -> Tensor:
        """The folded kernel (out_channels, in_channels / groups, S, R, C)."""
        return folded(self.weight, self._geometry, self.split, self._shares())
