"""What networks do outside their layers: the functional operations of `forward`, seen by running it without values.

A converter replaces modules; it cannot replace `x.mean((2, 3))`. So the 2D network and its 3D copy are run on the meta
device (shapes without values), each operation outside a converted layer is noted with the module whose forward it
stands in, and the two lists are compared. Code that is written without a number of dimensions (`x.flatten(1)`,
`x.mean(tuple(range(2, x.ndim)))`) does in 3D what it did in 2D and passes; the rest is refused, by module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Shape:
    """Stands for a tensor."""

    sides: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.sides)


@dataclass(frozen=True)
class Call:
    """One operation: in whose forward, on what, with tensors as their shapes."""

    path: str
    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    result: Any

    @property
    def shapes(self) -> list[Shape]:
        """Of all tensor arguments."""
        return list(_shapes([*self.arguments, *self.named.values()]))


@dataclass
class Trace:
    """Operations in their order, the shape that came out, and where, in what and why the run broke off, if it did."""

    calls: list[Call] = field(default_factory=list)
    result: Any = None
    failed_in: str | None = None
    failing: str = ""
    failure: str = ""


def run(model: nn.Module, inputs: Sequence[Any], layers: Collection[str]) -> Trace:
    """Run a model whose tensors are all on the meta device. What happens inside `layers` (paths) is not noted.

    Other forwards are put in the place of its own and stay there: it is a throw-away copy. A layer of which a network
    calls the forward by itself is seen as one that is called.
    """
    trace = Trace()
    stack: list[tuple[str, bool]] = []
    noting = _Noting(trace, stack)
    for path, module in model.named_modules():
        # their own takes long where there are no values, and imports torch's compiler
        own = _same if type(module) in _ALIKE else module.forward
        module.forward = _watched(own, path, path in layers, stack, trace)
    try:
        with torch.no_grad(), torch.device("meta"), noting:
            trace.result = _bare(model(*inputs))
    except Exception as error:  # a forward may raise anything
        trace.failed_in = stack[-1][0] if stack else ""
        trace.failure = f"{type(error).__name__}: {_short(str(error))}"
    return trace


def _watched(
    own: Callable[..., Any], path: str, layer: bool, stack: list[tuple[str, bool]], trace: Trace
) -> Callable[..., Any]:
    def forward(*given: Any, **named: Any) -> Any:
        inside = bool(stack) and stack[-1][1]
        if layer and not inside:
            trace.calls.append(Call(path, ENTRY, _bare((*given, *named.values())), {}, None))
        stack.append((path, layer or inside))
        answer = own(*given, **named)
        stack.pop()  # not where it raises, so that the stack still tells where
        return answer

    return forward


class _Noting(TorchFunctionMode):
    def __init__(self, trace: Trace, stack: list[tuple[str, bool]]) -> None:
        super().__init__()
        self._trace, self._stack = trace, stack

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").removeprefix("fft_")
        if name == "__get__" and (attribute := getattr(func, "__self__", None)) in _TURNED:
            name = str(attribute.__name__)
        self._trace.failing = name.strip("_")  # unless it comes back
        result = func(*args, **(kwargs or {}))
        self._trace.failing = ""
        path, inside = self._stack[-1] if self._stack else ("", False)
        if not inside and name not in _SILENT:
            named = {key: _bare(value) for key, value in (kwargs or {}).items()}
            self._trace.calls.append(Call(path, name.strip("_"), tuple(map(_bare, args)), named, _bare(result)))
        return result


_ALIKE = frozenset(
    {
        *(nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.Dropout, nn.Dropout2d, nn.Dropout3d),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
        *(nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    }
)
"""Layers whose answer has the shape of their input, whatever that is."""


def _same(input: Tensor) -> Tensor:
    return input


ENTRY = "its input"
"""Name of the note that something goes into a layer."""

_TURNED = (torch.Tensor.T, torch.Tensor.mT, torch.Tensor.H, torch.Tensor.mH)
"""Attributes that are operations."""

_SILENT = ("__get__", "__set__", "size", "dim", "stride", "numel", "is_contiguous", "is_floating_point", "get_device")


def _short(text: str) -> str:
    """The first sentence, or what there is room for."""
    first = text.strip().partition("\n")[0].partition(". ")[0]
    return first if len(first) <= 140 else first[:140].rpartition(" ")[0] + " ..."


def _bare(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Shape(tuple(value.shape))
    if isinstance(value, tuple | list):
        return tuple(_bare(one) for one in value)
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items()}
    return value


def _shapes(value: Any) -> Iterator[Shape]:
    if isinstance(value, Shape):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _shapes(one)
    elif isinstance(value, dict):
        yield from _shapes(list(value.values()))
