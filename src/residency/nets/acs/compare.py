"""Two runs of one network, in 2D and in 3D, compared operation by operation: does each mean the same in both?

A map is a tensor that has one axis more in 3D than it had in 2D; its last two axes in 2D, three in 3D, are the grid.
An operation that names axes must name the whole grid or none of it, in both runs. One that is not known is refused:
torch has many that act along the last axis, or the last two, and say so nowhere.

What shapes cannot show: a sum over the whole grid that is divided by the number of places in a plane
(`x.sum(...) / (h * w)`), since a number does not say where it is from; and channels brought to the end and then one
axis of the grid named (`x.movedim(1, -1).mean(1)`: rows of a plane, slices of a volume), since channels are taken to be
on the second axis. What hooks compute is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import torch

from residency.nets.acs.forward import ENTRY, Call, Shape, Trace
from residency.nets.acs.report import Refusal

_FLAT_ONLY: Mapping[str, str] = {
    "conv2d": "nn.Conv2d",
    "conv_transpose2d": "nn.ConvTranspose2d",
    "max_pool2d": "nn.MaxPool2d",
    "max_pool2d_with_indices": "nn.MaxPool2d",
    "max_unpool2d": "nn.MaxUnpool2d",
    "avg_pool2d": "nn.AvgPool2d",
    "lp_pool2d": "nn.AvgPool2d",
    "fractional_max_pool2d": "nn.MaxPool2d",
    "fractional_max_pool2d_with_indices": "nn.MaxPool2d",
    "adaptive_avg_pool2d": "nn.AdaptiveAvgPool2d",
    "adaptive_max_pool2d": "nn.AdaptiveMaxPool2d",
    "adaptive_max_pool2d_with_indices": "nn.AdaptiveMaxPool2d",
    "dropout2d": "nn.Dropout2d",
    "pixel_shuffle": "nn.Upsample and a convolution",
    "pixel_unshuffle": "a strided convolution",
    "fold": "nn.ConvTranspose2d",
    "grid_sample": "an operation for volumes",
    "affine_grid": "an operation for volumes",
    "fft2": "torch.fft.fftn",
    "ifft2": "torch.fft.ifftn",
    "rfft2": "torch.fft.rfftn",
    "irfft2": "torch.fft.irfftn",
}
"""Functions for planes alone -> what to put in their place."""

_LAYER = "the converter replaces layers and cannot replace what a forward computes by itself"


def flat_only(trace: Trace) -> list[Refusal]:
    """The operations of a 2D run that no volume can go through, whatever the code around them."""
    found = []
    for call in trace.calls:
        instead = _FLAT_ONLY.get(call.name)
        if call.name in ("interpolate", "upsample"):
            mode = call.named.get("mode", call.arguments[3] if len(call.arguments) > 3 else "nearest")
            instead = "nn.Upsample" if mode in ("bilinear", "bicubic") else None
        if call.name == "unfold" and call.shapes[0].rank == 4 and not isinstance(_argument(call, 2, "size"), int):
            instead = "a convolution"
        if instead is not None:
            single = instead.startswith("nn.") and " " not in instead
            advice = f"have an {instead}, and call the layer" if single else f"use {instead}"
            found.append(Refusal(call.path, f"{call.name}() in its forward", _LAYER, advice))
    return found


def compared(flat: Trace, solid: Trace) -> list[Refusal]:
    """The operations that mean something else in 3D, and where the 3D run took another way or broke off."""
    found = []
    for two, three in zip(flat.calls, solid.calls, strict=False):
        if (two.path, two.name) != (three.path, three.name):
            break
        reason = _differs(two, three)
        if reason is not None:
            advice = "write it for any number of dimensions, or use a layer"
            construct = ENTRY if two.name == ENTRY else f"{two.name}() in its forward"
            found.append(Refusal(two.path, construct, reason, advice))
    ways = [[(call.path, call.name) for call in trace.calls] for trace in (flat, solid)]
    if solid.failed_in is None and ways[0] != ways[1]:
        turn = next((k for k, (two, three) in enumerate(zip(*ways, strict=False)) if two != three), min(map(len, ways)))
        path, name = next(way[turn] for way in reversed(ways) if len(way) > turn)
        reason = f"with a volume it takes another way at {name if name == ENTRY else f'{name}()'}: not to be compared"
        found.append(Refusal(path, "its forward", reason, "write it for any number of dimensions"))
    if solid.failed_in is not None:
        advice = "use layers in place of functions and unpacked shapes, and pool to one value a channel before a Linear"
        construct = f"{solid.failing}() in its forward" if solid.failing else "its forward"
        found.append(Refusal(solid.failed_in, construct, f"it fails on a volume ({solid.failure})", advice))
    return found


def _differs(two: Call, three: Call) -> str | None:
    rule = _RULES.get(two.name)
    if rule is not None:
        return rule(two, three)
    if two.name in _ALONG:
        return _along(two, three)
    if two.name in _INDIFFERENT or not _grown(two, three):
        return None
    if _pointwise(two.name):
        return _broadcast(two, three)
    return "it is not known to do to a volume what it does to a plane"


def _grown(two: Call, three: Call) -> bool:
    return any(after.rank == before.rank + 1 for before, after in zip(two.shapes, three.shapes, strict=False))


@cache
def _pointwise(name: str) -> bool:
    """Whether torch itself says that each value of the answer depends on the values at its own place alone."""
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(torch.Tag.pointwise in getattr(packet, one).tags for one in packet.overloads())


def _along(two: Call, three: Call) -> str | None:
    """For operations along axes that they name."""
    place, name, default = _ALONG[two.name]
    before, after = two.shapes[:1], three.shapes[:1]
    if not before or not after or after[0].rank != before[0].rank + 1:
        return None
    if isinstance(_argument(two, place, name, default), Shape):  # the larger of two tensors
        return _broadcast(two, three)
    axes = _axes(_argument(two, place, name, default), before[0].rank)
    now = _axes(_argument(three, place, name, default), after[0].rank)
    return None if axes is None or now is None else _whole(axes, now, before[0].rank)


def _whole(axes: set[int], now: set[int], rank: int) -> str | None:
    """Whether axes of a map of `rank` in 2D, and `now` of one more in 3D, are the whole grid, or none, in both."""
    grid, solid = {rank - 2, rank - 1}, {rank - 2, rank - 1, rank}
    same = axes - grid == now - solid
    if same and ((not axes & grid and not now & solid) or (grid <= axes and solid <= now)):
        return None
    if len(axes & grid) == 1:
        return f"axis {', '.join(map(str, sorted(axes & grid)))} is rows or columns alone, and a volume has slices"
    return f"axes {', '.join(map(str, sorted(axes)))} of {rank} are not the same ones in a volume"


def _axes(value: Any, rank: int) -> set[int] | None:
    if isinstance(value, bool) or value is None or isinstance(value, str | Shape):
        return None
    values = value if isinstance(value, tuple | list) else (value,)
    return {one % rank for one in values} if all(isinstance(one, int) for one in values) else None


def _argument(call: Call, place: int, name: str, default: Any = None) -> Any:
    for key in (name, "dim", "dims", "axis"):
        if key in call.named:
            return call.named[key]
    if len(call.arguments) <= place:
        return default
    return call.arguments[place]


def _several(two: Call, three: Call) -> str | None:
    """For axes given one by one: `x.permute(0, 2, 3, 1)`, `x.flip(2, 3)`, `x.transpose(1, 2)`."""
    before, after = two.shapes[0], three.shapes[0]
    if after.rank != before.rank + 1:
        return None
    axes, now = (_axes(_listed(call), shape.rank) for call, shape in ((two, before), (three, after)))
    return None if axes is None or now is None else _whole(axes, now, before.rank)


def _listed(call: Call) -> Any:
    for key in ("dims", "dim"):
        if key in call.named:
            return call.named[key]
    given = call.arguments[1:] + tuple(call.named.values())
    return given[0] if len(given) == 1 else given


def _flatten(two: Call, three: Call) -> str | None:
    before, after = two.shapes[0], three.shapes[0]
    if after.rank != before.rank + 1:
        return None
    spans = []
    for call, shape in ((two, before), (three, after)):
        start = call.named.get("start_dim", call.arguments[1] if len(call.arguments) > 1 else 0)
        end = call.named.get("end_dim", call.arguments[2] if len(call.arguments) > 2 else -1)
        spans.append(set(range(start % shape.rank, end % shape.rank + 1)))
    return _whole(spans[0], spans[1], before.rank)


def _reshape(two: Call, three: Call) -> str | None:
    """For new shapes: the grid must stay as it is, become one axis, or go into one with all but the batch."""
    before, after = two.shapes[0], three.shapes[0]
    flat, solid = two.result, three.result
    if not isinstance(flat, Shape) or not isinstance(solid, Shape):
        return None
    text = f"it makes {_sides(before)} into {_sides(flat)}, and in 3D {_sides(after)} into {_sides(solid)}"
    if after.rank == before.rank:  # no map comes in; should one come out, then whatever takes it will tell
        return None
    grid, volume = before.sides[-2:], after.sides[-3:]
    if flat.sides[-2:] == grid and solid.rank == flat.rank + 1 and solid.sides[-3:] == volume:
        return None
    if flat.rank == solid.rank == 1:
        return None
    if flat.rank == solid.rank == 2:
        heads = [(prod(before.sides[:k]), prod(after.sides[:k])) for k in range(before.rank - 1)]  # the grid is behind
        tails = [(before.sides[-1], after.sides[-1])] if _channels_last(before, after) else []
        alike = (flat.sides[0], solid.sides[0]) in heads or (flat.sides[1], solid.sides[1]) in tails
        return None if alike else text
    if flat.rank == solid.rank and flat.sides[:-1] == solid.sides[:-1] and flat.sides[-1] == prod(grid):
        return None
    return text


def _index(two: Call, three: Call) -> str | None:
    before, after = two.shapes[0], three.shapes[0]
    if after.rank != before.rank + 1:
        return None
    axes, now = (_touched(call.arguments[1], shape.rank) for call, shape in ((two, before), (three, after)))
    if axes is None or now is None:
        return "it indexes a map in a way that is not known to mean the same in a volume"
    return _whole(axes, now, before.rank)


def _touched(index: Any, rank: int) -> set[int] | None:
    """The axes that an index does not leave as they are; None where it adds axes or looks up single places."""
    parts = list(index) if isinstance(index, tuple | list) else [index]
    if any(part is None or isinstance(part, bool) or (isinstance(part, Shape) and part.rank > 1) for part in parts):
        return None
    if sum(isinstance(part, Shape | tuple | list) for part in parts) > 1:
        return None
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (rank - len(parts) + 1)
    return {axis for axis, part in enumerate(parts) if part != slice(None)}


def _broadcast(two: Call, three: Call) -> str | None:
    """A map may meet numbers, single vectors and what has an axis more in 3D too; all else lies along wrong axes."""
    pairs = list(zip(two.shapes, three.shapes, strict=False))
    if all(after.rank == before.rank for before, after in pairs):
        return None
    odd = [after for before, after in pairs if after.rank == before.rank > 1 and prod(after.sides) != 1]
    return f"a tensor of shape {_sides(odd[0])} is made for planes, and a map has an axis more in 3D" if odd else None


def _product(two: Call, three: Call) -> str | None:
    return "it takes rows and columns for a matrix" if _grown(two, three) else None


def _einsum(two: Call, three: Call) -> str | None:
    """A map must have its grid under the dots, and keep it at the end or sum it up."""
    if not _grown(two, three):
        return None
    terms, arrow, result = str(two.arguments[0]).replace(" ", "").partition("->")
    parts = terms.split(",")
    maps = zip(parts, two.shapes, three.shapes, strict=False)
    under = all(
        part.endswith("...") and len(part) - 3 <= before.rank - 2
        for part, before, after in maps
        if after.rank == before.rank + 1
    )
    if under and arrow and len(parts) == len(two.shapes) and (result.endswith("...") or "." not in result):
        return None
    return "letters of its equation stand for rows or columns"


def _channels_last(before: Shape, after: Shape) -> bool:
    """Whether slices came in at the second place, where else channels are. (Of a single place it does not matter.)"""
    return before.sides[1] != after.sides[1] or prod(after.sides[1:-1]) == 1


def _last(two: Call, three: Call) -> str | None:
    """For layers over the last axis."""
    before, after = two.shapes[0], three.shapes[0]
    if after.rank == before.rank + 1 and not _channels_last(before, after):
        return "it acts along columns alone, and a volume has slices and rows besides"
    return None


def _resized(two: Call, three: Call) -> str | None:
    before, after = two.shapes[0], three.shapes[0]
    flat, solid = two.result, three.result
    if after.rank == before.rank or (isinstance(flat, Shape) and solid.rank == flat.rank + 1):
        return None
    return "it gives planes and volumes the same number of axes"


def _pad(two: Call, three: Call) -> str | None:
    before, after = two.shapes[0], three.shapes[0]
    if after.rank != before.rank + 1:
        return None
    sides, now = (tuple(call.named.get("pad", call.arguments[1:2] and call.arguments[1])) for call in (two, three))
    if any(sides[4:]) or (any(sides) and (len(sides), len(now)) != (4, 6)):
        return f"it pads the last {len(sides) // 2} axes of a plane and the last {len(now) // 2} of a volume"
    return None


def _moved(two: Call, three: Call) -> str | None:
    """`movedim(1, -1)` and back take channels to the end in any number of dimensions."""
    if _listed(two) in ((1, -1), (-1, 1)) and _listed(two) == _listed(three):
        return None
    return _several(two, three)


def _entry(two: Call, three: Call) -> str | None:
    before, after = two.shapes[:1], three.shapes[:1]
    if before and after and after[0].rank != before[0].rank + 1:
        return f"of shape {_sides(before[0])} in 2D it has the shape {_sides(after[0])} in 3D, which is no volume"
    return None


def _layer_norm(two: Call, three: Call) -> str | None:
    before, after = two.shapes[0], three.shapes[0]
    shape = two.named.get("normalized_shape", two.arguments[1] if len(two.arguments) > 1 else ())
    if after.rank == before.rank + 1 and len(shape) > 1:
        return f"its normalised shape {tuple(shape)} includes the sides of one grid"
    return _last(two, three)


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape.sides))


_ALONG: Mapping[str, tuple[int, str, Any]] = {
    **dict.fromkeys(
        (
            *("mean", "sum", "prod", "std", "var", "amax", "amin", "max", "min", "argmax", "argmin", "median", "all"),
            *("nanmean", "nansum", "std_mean", "var_mean", "aminmax"),
            *("any", "softmax", "log_softmax", "softmin", "logsumexp", "cumsum", "cumprod", "squeeze", "unsqueeze"),
            *("unbind", "select", "narrow", "index_select", "gather", "count_nonzero"),
            *("unflatten", "unfold"),
        ),
        (1, "dim", None),
    ),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), (1, "dim", 0)),
    **dict.fromkeys(("argsort", "sort"), (1, "dim", -1)),
    **dict.fromkeys(("topk", "kthvalue"), (2, "dim", -1)),
    **dict.fromkeys(("norm", "chunk", "split", "tensor_split", "repeat_interleave"), (2, "dim", None)),
    **dict.fromkeys(("fftn", "ifftn", "rfftn", "irfftn"), (2, "dim", None)),
    "normalize": (2, "dim", 1),
    "vector_norm": (2, "dim", None),
    "cosine_similarity": (2, "dim", 1),
    "roll": (2, "dims", None),
    "glu": (1, "dim", -1),
}
"""Operation -> where it names axes: place among its arguments, keyword, and what holds where it is left out."""

_RULES: Mapping[str, Callable[[Call, Call], str | None]] = {
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "flip"), _several),
    **dict.fromkeys(("movedim", "moveaxis"), _moved),
    **dict.fromkeys(("view", "reshape", "view_as", "reshape_as"), _reshape),
    **dict.fromkeys(("expand", "repeat"), _resized),
    "linear": _last,
    "einsum": _einsum,
    **dict.fromkeys(
        (
            *("add", "sub", "rsub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "truediv", "pow"),
            *("iadd", "isub", "imul", "itruediv", "ipow", "addcmul", "addcdiv", "lerp", "where", "maximum", "minimum"),
            *("eq", "ne", "lt", "le", "gt", "ge", "masked_fill", "expand_as", "and", "or", "xor", "mod", "rpow"),
        ),
        _broadcast,
    ),
    **dict.fromkeys(("matmul", "rmatmul", "bmm", "baddbmm", "scaled_dot_product_attention"), _product),
    "flatten": _flatten,
    "getitem": _index,
    "setitem": _index,
    ENTRY: _entry,
    "pad": _pad,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
}

_INDIFFERENT = frozenset(
    {
        *("batch_norm", "instance_norm", "group_norm", "local_response_norm", "channel_shuffle", "prelu"),
        *("interpolate", "upsample", "hardswish", "logsigmoid", "softsign", "tanhshrink", "dropout", "feature_dropout"),
        *("alpha_dropout", "feature_alpha_dropout", "bernoulli", "normal", "uniform", "fill", "zero", "invert", "pos"),
        *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros", "new_ones"),
        *("new_full", "new_empty", "new_tensor", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
        *(
            "long",
            "int",
            "bool",
            "cpu",
            "cuda",
            "contiguous",
            "clone",
            "detach",
            "requires_grad",
            "len",
            "iter",
            "hash",
        ),
    }
)
"""Operations besides pointwise ones that do the same whatever the number of dimensions, or look at no places."""
