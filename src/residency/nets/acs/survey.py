"""What a conversion will do with each module of a network, before anything is made: change, keep or refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from residency.nets.acs.inflate import Inflation
from residency.nets.acs.report import Refusal, UnsuitedError
from residency.nets.acs.table import CHANGED, REFUSED, SOLID, Change, Plan
from residency.nets.acs.ties import tied
from residency.nets.net import Net

_OWN = "a converter cannot know what it does"
_OVERRIDABLE = frozenset({"__init__", "__module__", "__doc__", "__repr__", "extra_repr", "reset_parameters"})


@dataclass(frozen=True)
class Survey:
    """Changes by path (each module once, under its first name), and everything that stands against them.

    runs  whether a copy without values can be made and run
    """

    changes: Mapping[str, Change]
    refusals: tuple[Refusal, ...]
    runs: bool


def survey(model: nn.Module, plan: Plan) -> Survey:
    """Looks at every module; changes nothing."""
    changes: dict[str, Change] = {}
    refusals: list[Refusal] = []
    for path, module in model.named_modules():
        construct = type(module).__name__
        against = _against(module)
        if against is not None:
            refusals.append(Refusal(path, construct, *against))
            continue
        known = _known(module)
        if known is None:
            continue
        if known in REFUSED:
            refusals.append(Refusal(path, _told(module), *REFUSED[known]))
        else:
            try:
                changes[path] = CHANGED[known](module, plan)
            except UnsuitedError as error:
                refusals.append(Refusal(path, _told(module), error.reason, error.advice))
    at_fault = {one.path for one in refusals}
    refusals += [one for one in tied(model, changes) if one.path not in at_fault]
    refusals += _shared(model, changes)
    return Survey(changes, tuple(refusals), not any(_unborn(one) or _compiled(one) for one in model.modules()))


def _told(module: nn.Module) -> str:
    """Class and settings, in one line."""
    return type(module).__name__ if len(module._modules) else str(module)


def _known(module: nn.Module) -> type[nn.Module] | None:
    """The class of the table that says what the module does; None if there is none."""
    for kind in type(module).__mro__:
        if kind in CHANGED or kind in REFUSED:
            return kind
    return None


def _against(module: nn.Module) -> tuple[str, str] | None:
    """Reason and advice against touching or copying this module, whatever the table says."""
    known = _known(module)
    if _unborn(module):
        return "it does not know its channels yet", "run the network once on an image"
    if known is not None and parametrize.is_parametrized(module):
        names = ", ".join(sorted(module.parametrizations))  # type: ignore[arg-type]
        return (
            f"its {names} is computed by a parametrisation, which is made for planes",
            "call torch.nn.utils.parametrize.remove_parametrizations first",
        )
    computing = [hook for hook in module._forward_pre_hooks.values() if type(hook).__module__.startswith("torch.nn.")]
    if computing:
        name = type(computing[0]).__name__
        return f"{name} computes its weight before each call", "remove that first (see torch.nn.utils)"
    if "forward" in vars(module):
        return f"its forward was replaced by another one: {_OWN}", "make a class of it"
    if _compiled(module):
        return "it is compiled", "convert the network first and compile the result"
    if isinstance(module, Net) and module.dimensions == 3:
        return SOLID
    if known is not None and type(module) is not known:
        own = _own_behaviour(type(module), known)
        if own:
            return f"it is a {known.__name__} with a {', '.join(own)} of its own: {_OWN}", "use the class itself"
    for name, value in {**vars(module), **module._parameters, **module._buffers}.items():
        if getattr(value, "grad_fn", None) is not None:
            return f"its attribute '{name}' is a tensor in the midst of a computation", "detach it"
        if isinstance(value, nn.Parameter) and value._backward_hooks:
            return f"its parameter '{name}' has a hook, which no copy can keep", "remove the hook, and add it after"
    return None


def _unborn(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _compiled(module: nn.Module) -> bool:
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return in_place or type(module).__name__ == "OptimizedModule" or type(module).__module__.startswith("torch.jit")


def _own_behaviour(kind: type[nn.Module], known: type[nn.Module]) -> list[str]:
    """The methods of `known` that a subclass of it has written anew."""
    between = kind.__mro__[: kind.__mro__.index(known)]
    return sorted(
        {
            name
            for each in between
            for name, value in vars(each).items()
            if hasattr(known, name) and callable(value) and name not in _OVERRIDABLE
        }
    )


def _shared(model: nn.Module, changes: Mapping[str, Change]) -> list[Refusal]:
    """Weights that two layers share and that would not stay one."""
    uses: dict[int, list[tuple[str, Inflation | None]]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                inflation = changes[path].weight if path in changes and name == "weight" else None
                uses.setdefault(id(parameter), []).append((path, inflation))
    return [
        Refusal(path, "its weight", f"it is shared with {places[0][0]}, where it becomes another one", "untie them")
        for places in uses.values()
        for path, inflation in places
        if inflation != places[0][1]
    ]
