"""What a network holds that no deep copy carries over: functions that refer to its modules and tensors by themselves.

Python copies methods, `functools.partial` and the attributes of objects with whatever they belong to. Functions it does
not copy: `self.f = lambda x: self.linear(x)` in a copy goes on using the weights of the network that was copied. Seen
are the variables that a function encloses, its defaults, and the global names that it reads; not what code finds
elsewhere, in a registry or by `eval`.
"""

from __future__ import annotations

import dis
import functools
import weakref
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from residency.nets.acs.copies import HOOKS, MOST, parts, reached, unregistered
from residency.nets.acs.report import Refusal


def tied(model: nn.Module, changed: Collection[str]) -> Iterator[Refusal]:
    """Attributes and hooks, by module, through which a copy would go on using the network itself.

    changed  paths of the modules that become others
    """
    owned = {id(value): f"'{path}'" if path else "the network itself" for path, value in _owned(model)}
    others = {id(model.get_submodule(path)) for path in changed}
    for path, module in model.named_modules():
        for name, value in _attributes(module):
            for kind, found in _uncopied(value, others):
                told = owned.get(id(found)) or (f"a {type(found).__name__}" if _learns(found) else None)
                if told is not None:
                    reason = f"it holds {kind} that refers to {told}, and a copy would go on using that one"
                    yield Refusal(path, name, reason, "make it a method or a module of its own")
                    break


def _owned(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in reversed(list(model.named_modules())):
        tensors = {**vars(module), **module._buffers, **module._parameters}
        for name, value in tensors.items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}" if path else name, value
        yield path, module


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What is to be looked at, by the words for it."""
    for name in HOOKS:
        for hook in vars(module)[name].values():
            yield "one of its hooks", hook
    for name, value in unregistered(module):
        yield f"its attribute '{name}'", value
    for kind in type(module).__mro__:
        if not kind.__module__.startswith("torch."):
            functions = ((name, value) for name, value in vars(kind).items() if isinstance(value, FunctionType))
            yield from ((f"its {name}()", value) for name, value in functions)


def _uncopied(value: Any, others: Collection[int]) -> Iterator[tuple[str, Any]]:
    """Modules and tensors that copies of the value would still refer to, and through what."""
    for one in reached(value):
        if isinstance(one, FunctionType):
            yield from (("a function", found) for found in _referred(one))
        elif isinstance(one, weakref.ref):
            yield "a weak reference", one()
        elif isinstance(one, MethodType) and id(one.__self__) in others:  # of a class that the copy's is not
            yield "a method", one.__self__


def _referred(function: FunctionType) -> Iterator[Any]:
    """All modules and tensors behind a function; other functions that it encloses are followed."""
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting and len(seen) < MOST:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module | Tensor):
            yield one
        elif isinstance(one, FunctionType):
            waiting += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), *_cells(one)]
            waiting += [value for value in _globals(one) if isinstance(value, nn.Module | Tensor)]
        elif isinstance(one, weakref.ref):
            waiting.append(one())
        else:
            waiting += parts(one)


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _globals(function: FunctionType) -> Iterator[Any]:
    for name in _read(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


@functools.cache
def _read(code: CodeType) -> frozenset[str]:
    """Global names that a function, or one inside it, reads."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return frozenset(names).union(*(_read(one) for one in code.co_consts if isinstance(one, CodeType)))


def _learns(value: Any) -> bool:
    return isinstance(value, nn.Parameter) or (isinstance(value, nn.Module) and any(True for _ in value.parameters()))
