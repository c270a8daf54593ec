"""A 2D network carried into 3D: its layers replaced by ones for volumes, its weights kept.

    converted = convert(network)          # "acs": the weights of the 2D network, unchanged, in ACS convolutions
    converted.model(volume)               # (N, C, S, R, C)
    print(converted.report)

The network that is given is not touched. What cannot be carried over is refused, all of it at once and by name, before
anything is made. See `table` for what layers become, `compare` for what is found in the code of a forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from residency.errors import ConversionError
from residency.nets.acs.compare import compared, flat_only
from residency.nets.acs.copies import Copies
from residency.nets.acs.forward import ENTRY, Trace, run
from residency.nets.acs.inflate import Inflation
from residency.nets.acs.operator import ACSConv3d
from residency.nets.acs.report import Refusal, Report, Row, refuse
from residency.nets.acs.survey import Survey, survey
from residency.nets.acs.table import SOLID, Plan, To
from residency.nets.acs.transposed import ACSConvTranspose3d
from residency.nets.net import Net

_SIDES = (
    (64, 96),
    (224, 224),
    (32, 48),
    (28, 28),
    (32, 32),
    (48, 48),
    (64, 64),
    (96, 96),
    (128, 128),
    (256, 256),
    (299, 299),
    (512, 512),
)
"""Images on which a network is tried that does not say what it takes: the first one that it takes."""


@dataclass(frozen=True)
class Converted:
    """The 3D network, and what became of each layer."""

    model: nn.Module
    report: Report
    inflations: Mapping[str, Inflation]

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dict of the 2D network, strictly. The mapping and its tensors stay as they are.

        After a conversion to "acs" and "mean-acs" that is what `model.load_state_dict` does, and names and shapes are
        those of the 2D network. After "soft-acs" the mixtures stay as they are; after "i3d" and "slicewise" weights are
        inflated on the way. Raises RuntimeError for names or shapes that do not fit.
        """
        given = {name: self.inflations[name](one) if name in self.inflations else one for name, one in state.items()}
        mixtures = {
            f"{path}.view_logits" if path else "view_logits": module.view_logits
            for path, module in self.model.named_modules(remove_duplicate=False)
            if type(module) in FOLDING and hasattr(module, "view_logits")
        }
        self.model.load_state_dict({**mixtures, **given})


@torch.inference_mode(False)  # tensors made in it could never be trained
def convert(
    model: nn.Module,
    to: To = "acs",
    *,
    example: Tensor | Sequence[Any] | None = None,
    axis: int = 0,
    unchecked: bool = False,
) -> Converted:
    """The network for volumes (N, channels, S, R, C). `model` is not changed.

    to         "acs", "soft-acs", "mean-acs"; "i3d": weights repeated along one axis; "slicewise": kernels one slice
               thick
    example    an image (N, channels, R, C), or all arguments of the forward in a tuple, for the check; made up if left
               out. Images may lie in lists, tuples and dicts; only their shapes are used. A network with other inputs
               than one image needs it
    axis       for "i3d" and "slicewise": what 2D kernels do not have; 0 slices, 1 rows, 2 columns
    unchecked  convert even where the code of the forward cannot be checked, because it does not run on tensors without
               values (`.item()`, NumPy, branches on values) or takes no image that was tried; the report says so

    The copy has the weights, dtype, device, modes, frozen and shared parameters, hooks and names of the network. A
    hook that belongs to an object gets a copy of that object. A `Net` becomes a `Net` of three dimensions. Raises
    ConversionError, naming every module at fault, for what has no counterpart, for a forward that cannot be checked,
    and for functions held as attributes or hooks that refer to the network itself, whose weights the copy would go on
    using (see `ties`). What the check by shapes cannot show is said in `compare`.
    """
    if not isinstance(model, nn.Module):
        raise ConversionError(f"a torch module is converted, not {type(model).__name__}")
    if to not in get_args(To):
        near = get_close_matches(str(to), get_args(To), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise ConversionError(f"unknown conversion '{to}'{hint} (known: {', '.join(get_args(To))})")
    if axis not in (0, 1, 2) or (axis and to.endswith("acs")):
        raise ConversionError(f"axis {axis}: 0, 1 or 2, and 0 for ACS convolutions, which look along all of them")
    what = type(model).__name__
    if isinstance(model, Net) and model.dimensions == 3:  # not a refusal of each of its layers
        raise ConversionError(f"{what} cannot be carried into 3D: {'; '.join(SOLID)}", places=("",))
    found = survey(model, Plan(to, axis))
    paths = {one.path for one in found.refusals} | set(found.changes)
    if not paths:
        raise ConversionError(f"{what} holds no layer for planes: there is nothing to convert")
    trial = _tried(model, example, paths) if found.runs else Trial()
    refusals = list(found.refusals)
    for training in (False, True) if trial.inputs else ():
        refusals += _of_its_forward(model, found, trial, training)
    if refusals:
        raise refuse(what, refusals)
    if trial.failed and not unchecked:
        raise trial.error(what, example is not None)
    made = _made(model, found)
    return Converted(made, _report(model, made, found, to, trial), _inflations(model, found))


@torch.inference_mode(False)
def fold(model: nn.Module) -> nn.Module:
    """The same network with a plain 3D convolution for every ACS one: a new module; `model` is not changed.

    Raises ConversionError where it holds none.
    """
    copies, kernels = Copies(model), dict[Any, Any]()
    layers = [module for module in model.modules() if type(module) in FOLDING]
    if not layers:
        raise ConversionError(f"{type(model).__name__} holds no ACS convolution: there is nothing to fold")
    for layer in cast("list[Any]", layers):
        folded = layer.fold()
        parameters = tuple(id(one) for name, one in layer.named_parameters() if name != "bias")
        # Layers that share their weights share them still.
        folded.weight = kernels.setdefault((parameters, folded.weight.shape, str(layer.extra_repr())), folded.weight)
        folded.bias = copies.of(layer.bias)
        copies.put(layer, folded)
    return copies.finish()


FOLDING: tuple[type[Any], ...] = (ACSConv3d, ACSConvTranspose3d)
"""The layers that fold."""


def _made(model: nn.Module, found: Survey, *, without_values: bool = False) -> nn.Module:
    copies = Copies(model, without_values=without_values)
    for path, change in found.changes.items():
        layer = model.get_submodule(path)
        copies.put(layer, change.make(layer, copies))
    made = copies.finish()
    for module in made.modules():
        if isinstance(module, Net):
            module.dimensions = 3
    return made


@dataclass
class Trial:
    """What the 2D network was run on: the arguments that it took, None if it took none, and what else failed."""

    inputs: Sequence[Any] | None = None
    failed: list[tuple[Sequence[Any], bool, Trace]] = field(default_factory=list)

    def error(self, what: str, given: bool) -> ConversionError:
        """That the forward could not be checked, what was tried, and what to do."""
        _, training, trace = self.failed[0]
        images = [tuple(one.shape) for inputs, _, _ in self.failed for one in _tensors(inputs)]
        sides = ", ".join(f"{shape[2]}x{shape[3]}" for shape in images if not given)
        tried = "the example" if given else f"images of {images[0][1]} channels and {sides}"
        at = f" in '{trace.failed_in}'" if trace.failed_in else ""
        mode = ", in training" if training else ""
        return ConversionError(
            f"{what} cannot be checked: as a 2D network, run without values, it does not take {tried}: "
            f"{trace.failure}{at}{mode}; give arguments that it takes as `example`, or `unchecked=True` where its "
            "code needs values and is known to do in 3D what it does in 2D",
            places=(trace.failed_in or "",),
        )


def _tried(model: nn.Module, example: Any, paths: set[str]) -> Trial:
    failed = []
    for inputs in _examples(model, example):
        trace = _run(Copies(model, without_values=True).finish(), inputs, paths, training=False)
        if trace.failed_in is None:
            return Trial(inputs)
        failed.append((inputs, False, trace))
    return Trial(None, failed)


def _examples(model: nn.Module, example: Any) -> Iterator[Sequence[Any]]:
    if isinstance(example, Mapping):
        raise ConversionError("example is an image or a tuple of arguments: put the dict, one argument, into a tuple")
    if example is not None:
        yield [example] if isinstance(example, Tensor) else list(example)
        return
    layers = {path: one for path, one in model.named_modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)}
    channels = layers[_entered_first(model, layers)].in_channels if layers else 3
    for grid in _grids(model):
        yield [_empty(model, channels, grid)]


def _grids(model: nn.Module) -> Sequence[tuple[int, int]]:
    if not isinstance(model, Net):
        return _SIDES
    least = -(-max(model.least, 64) // model.multiple) * model.multiple
    return [(least, least + model.multiple)]


def _empty(model: nn.Module, channels: int, grid: Sequence[int]) -> Tensor:
    dtype = next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)
    return torch.empty(2, getattr(model, "channels", None) or channels, *grid, dtype=dtype, device="meta")


def _entered_first(model: nn.Module, layers: Mapping[str, Any]) -> str:
    """The convolution that an image made up enters first, whether it can or not; where it enters none, the first."""
    first = next(iter(layers))
    image = _empty(model, layers[first].in_channels, _grids(model)[0])
    if not any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in layers.values()):
        image = _thickened(image)
    trace = _run(Copies(model, without_values=True).finish(), [image], set(layers), training=False)
    return next((call.path for call in trace.calls if call.name == ENTRY), first)


def _of_its_forward(model: nn.Module, found: Survey, trial: Trial, training: bool) -> list[Refusal]:
    """What the forwards do that no volume can go through; the 3D run is made only where all layers can be."""
    paths, inputs = set(found.changes) | {one.path for one in found.refusals}, cast("Sequence[Any]", trial.inputs)
    flat = _run(Copies(model, without_values=True).finish(), inputs, paths, training)
    refusals = flat_only(flat)
    if flat.failed_in is not None:
        trial.failed.append((inputs, training, flat))
    if flat.failed_in is None and not refusals and not found.refusals:
        solid = _made(model, found, without_values=True)
        refusals += compared(flat, _run(solid, _each(inputs, _thickened), paths, training))
    return refusals


def _run(model: nn.Module, inputs: Sequence[Any], paths: set[str], training: bool) -> Trace:
    model.train(training)
    return run(model, _each(inputs, lambda one: torch.empty_like(one, device="meta")), paths)


def _each(value: Any, act: Callable[[Tensor], Tensor]) -> Any:
    """The same with other tensors, wherever they lie in lists, tuples and dicts."""
    match value:
        case Tensor():
            return act(value)
        case dict():
            return {key: _each(one, act) for key, one in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(_each(one, act) for one in value))
        case tuple() | list():
            return type(value)(_each(one, act) for one in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    """Wherever they lie in lists, tuples and dicts."""
    found: list[Tensor] = []

    def noted(one: Tensor) -> Tensor:
        found.append(one)
        return one

    _each(value, noted)
    return found


def _thickened(image: Tensor) -> Tensor:
    """An image as a volume, with more slices than rows or columns, so that no two axes are mistaken for another."""
    if image.ndim != 4:
        return image
    number, channels, rows, columns = image.shape
    return image.new_empty(number, channels, 2 * max(rows, columns), rows, columns)


def _inflations(model: nn.Module, found: Survey) -> dict[str, Inflation]:
    first = {id(module): path for path, module in model.named_modules()}
    return {
        f"{path}.weight" if path else "weight": weight
        for path, module in model.named_modules(remove_duplicate=False)
        if first[id(module)] in found.changes and (weight := found.changes[first[id(module)]].weight) is not None
    }


def _report(model: nn.Module, made: nn.Module, found: Survey, to: str, trial: Trial) -> Report:
    rows = []
    for path, module in model.named_modules():
        change = found.changes.get(path)
        if change is not None:
            rows.append(Row(path, str(module), str(made.get_submodule(path)), "converted", change.note))
        elif not len(module._modules):
            rows.append(Row(path, str(module), str(module), "kept"))
    checked = trial.inputs is not None and not trial.failed
    image = next((tuple(one.shape) for one in _tensors(trial.inputs) if checked), None)
    notes = [f"The code of its forwards was not checked ({trial.failed[0][2].failure})."] if trial.failed else []
    hooked = [path for path, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    if hooked:
        notes.append(f"Hooks come along, and what they compute was not checked: {', '.join(map(repr, hooked))}.")
    return Report(to, tuple(rows), image, tuple(notes))


def first_layer(weight: Tensor, channels: int) -> Tensor:
    """The weight (outputs, inputs, ...) of a first layer for another number of channels, as segmentation models do.

    One channel: the sum over the inputs, so that a grey image is answered as its copy to every channel was. Others:
    the inputs in turn, scaled to the same sum over channels. A new tensor. Raises ValueError for less than one channel.
    """
    if channels < 1:
        raise ValueError(f"a first layer needs at least one channel, not {channels}")
    inputs = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = torch.arange(channels, device=weight.device) % inputs
    return weight[:, turns] * (inputs / channels)


@torch.inference_mode(False)
def with_channels(model: nn.Module, channels: int) -> nn.Module:
    """The network for images of so many channels, its first convolution made by `first_layer`: a new module.

    First is the convolution that an image made up enters first; where none comes so far, the first by name. Raises
    ConversionError where there is no convolution, or the first is in groups.
    """
    layers = {path: layer for path, layer in model.named_modules() if type(layer) in (nn.Conv2d, nn.Conv3d, ACSConv3d)}
    path = _entered_first(model, layers) if layers else ""
    layer: Any = layers.get(path)
    if layer is None or layer.groups != 1:
        what = "no convolution" if layer is None else f"a first convolution '{path}' in {layer.groups} groups"
        raise ConversionError(f"{type(model).__name__} has {what}; its channels cannot be changed", places=(path,))
    copies = Copies(model)
    other: Any = copies.twin(layer)
    weight = first_layer(layer.weight.detach(), channels)
    other.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    other.in_channels = channels
    copies.put(layer, other)
    made = copies.finish()
    if isinstance(made, Net):
        made.channels = channels
    return made
