"""A deep copy of a network in which some layers are others, and everything that was one object is one still."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from residency.nets.acs.inflate import Inflation

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_TENSORS = ("_parameters", "_buffers")

MOST = 10_000
"""Objects looked at behind one attribute."""

One = TypeVar("One")


class Copies:
    """First `put` every layer that is to become another one, then `finish`.

    Shared layers, tied parameters, modes, frozen parameters, hooks, and lists that hold layers a second time come out
    as they were, since all of it is one run of Python's own deep copy, which is told what stands for what.
    """

    def __init__(self, model: nn.Module, *, without_values: bool = False) -> None:
        """`without_values`: every tensor of the copy is on the meta device, and nothing is called by hooks."""
        self.model = model
        self._memo: dict[int, Any] = {}
        self._inflated: dict[tuple[int, Inflation], nn.Parameter] = {}
        self._put: list[tuple[nn.Module, nn.Module]] = []
        self._without_values = without_values
        if without_values:
            for tensor in _tensors(model):
                self._memo[id(tensor)] = _without_values(tensor)

    def of(self, value: One) -> One:
        """The copy of a parameter or any other value; the same one each time."""
        return copy.deepcopy(value, self._memo)

    def inflated(self, weight: nn.Parameter, inflation: Inflation) -> nn.Parameter:
        """The inflated copy of a weight; the same one each time."""
        known = id(weight), inflation
        if known not in self._inflated:
            grown = inflation(self.of(weight).detach())
            self._inflated[known] = nn.Parameter(grown, requires_grad=weight.requires_grad)
        return self._inflated[known]

    def twin(self, layer: nn.Module) -> nn.Module:
        """The layer with copies of its tensors, and no hooks yet."""
        twin: nn.Module = object.__new__(type(layer))
        for name, value in vars(layer).items():
            if name in HOOKS:
                twin.__dict__[name] = type(value)()
            elif name in _TENSORS:
                twin.__dict__[name] = {key: self.of(tensor) for key, tensor in value.items()}
            else:
                twin.__dict__[name] = value
        return twin

    def put(self, layer: nn.Module, other: nn.Module) -> None:
        """Let `other` stand where `layer` stands."""
        self._memo[id(layer)] = other
        self._put.append((layer, other))

    def finish(self) -> nn.Module:
        """The copy of the whole."""
        for layer, other in self._put:
            for name, value in vars(layer).items():
                if name in HOOKS:
                    if value and not self._without_values:
                        other.__dict__[name].update(self.of(value))
                elif other.__dict__.get(name) is value:
                    other.__dict__[name] = self.of(value)
            other.__dict__["_is_full_backward_hook"] = layer.__dict__["_is_full_backward_hook"]
        made = self.of(self.model)
        if self._without_values:
            for module in made.modules():
                for name in HOOKS:
                    module.__dict__[name].clear()
        return made


def unregistered(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that are no parameters, buffers, modules or hooks of it, by name."""
    for name, value in vars(module).items():
        if name not in {*HOOKS, *_TENSORS, "_modules"}:
            yield name, value


def reached(value: Any) -> Iterator[Any]:
    """The value and all that a deep copy of it copies; modules and tensors are named and not looked into."""
    seen: set[int] = set()
    waiting = [value]
    while waiting and len(seen) < MOST:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if not isinstance(one, nn.Module | Tensor | FunctionType):
            waiting += parts(one)


def parts(value: Any) -> list[Any]:
    """What an object that is no module, tensor or function holds; nothing where it is copied in a way of its own."""
    if isinstance(value, str | bytes | int | float | complex | type | ModuleType | None):
        return []
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if hasattr(value, "__wrapped__"):  # of functools.cache, which is copied no more than a function is
        return [value.__wrapped__]
    kind: Any = type(value)
    if hasattr(kind, "__deepcopy__") or getattr(kind, "__getstate__", None) is not object.__getstate__:
        return []
    return list(vars(value).values()) if hasattr(value, "__dict__") else []


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that attributes hold, of modules too that are held so."""
    for module in model.modules():
        yield from (
            one for values in (module._parameters, module._buffers) for one in values.values() if one is not None
        )
        for _, value in unregistered(module):
            for one in reached(value):
                if isinstance(one, Tensor):
                    yield one
                elif isinstance(one, nn.Module):
                    yield from (*one.parameters(), *one.buffers())


def _without_values(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
