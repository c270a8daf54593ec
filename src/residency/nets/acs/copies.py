"""A deep copy of a network in which some layers are others, and everything that was one object is one still."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from residency.nets.acs.inflate import Inflation

_HOOKS = (
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
            if name in _HOOKS:
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
                if name in _HOOKS:
                    if value and not self._without_values:
                        other.__dict__[name].update(self.of(value))
                elif other.__dict__.get(name) is value:
                    other.__dict__[name] = self.of(value)
            other.__dict__["_is_full_backward_hook"] = layer.__dict__["_is_full_backward_hook"]
        made = self.of(self.model)
        if self._without_values:
            for module in made.modules():
                for name in _HOOKS:
                    module.__dict__[name].clear()
        return made


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes."""
    for module in model.modules():
        for values in (module._parameters, module._buffers, vars(module)):
            yield from (value for value in values.values() if isinstance(value, Tensor))


def _without_values(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
