"""The same network with less to compute: rewrites that do not change what a net answers in inference.

Three, all exact but for rounding:

- an instance normalisation with running statistics is, in inference, a batch normalisation, and engines know that one
  better (exporters write the other as a chain of reshapes);
- a batch normalisation whose only input is a convolution's output is a scale and a shift of that convolution's weights.
  One that follows an activation is not, and stays;
- a 1x1 convolution of an upsampled map is the upsampled 1x1 convolution: a linear map of each voxel's features commutes
  with interpolation whose weights sum to one (the bias too). Convolving first does a quarter of the work in 2D, an
  eighth in 3D.

Which module feeds which is read from a symbolic trace (torch.fx). A net that cannot be traced, for Python branches on
its input, only has its instance normalisations rewritten.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from residency.nets.acs import ACSConv3d, ACSConvTranspose3d
from residency.nets.averages import with_open_averages
from residency.nets.net import Net

Module = TypeVar("Module", bound=nn.Module)

_BATCH_NORMS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm1d: nn.BatchNorm1d,
    nn.InstanceNorm2d: nn.BatchNorm2d,
    nn.InstanceNorm3d: nn.BatchNorm3d,
}

# Exact types throughout: a subclass may compute something else.
_FORWARD = (nn.Conv1d, nn.Conv2d, nn.Conv3d, ACSConv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, ACSConvTranspose3d)
_PASSED_THROUGH = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_UPSAMPLINGS = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
_WEIGHTS_SUM_TO_ONE = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear")


def prepared_for_export(net: Net) -> Net:
    """The net with all three rewrites, in evaluation mode; the net itself where there is nothing to rewrite.

    Adaptive averages, too, become what exporters write for open sides (`residency.nets.averages`).
    `net` is left as it is. The two share the weights that no rewrite touches, so train the one or the other.
    """
    return with_open_averages(convolved_before_upsampling(with_folded_norms(with_batch_norms(net))))


def with_batch_norms(module: Module) -> Module:
    """A copy in evaluation mode, each instance norm with running statistics in it a batch norm by the same name.

    The module itself where it has none.
    """
    found = [part for part in module.modules() if type(part) in _BATCH_NORMS and _keeps_statistics(part)]
    return _copy_with(module, {part: _batch_norm(part) for part in found})


def with_folded_norms(module: Module) -> Module:
    """A copy in evaluation mode without the batch norms that only follow a convolution: they are in its weights.

    The module itself where it has none.
    """
    calls = _Calls.of(module)
    new: dict[nn.Module, nn.Module] = {}
    for norm in calls.of_type(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        source = calls.only_source(norm)
        if source is not None and type(source) in (*_FORWARD, *_TRANSPOSED) and _keeps_statistics(norm):
            new |= {source: _folded(source, norm), norm: nn.Identity()}
    return _copy_with(module, new)


def convolved_before_upsampling(module: Module) -> Module:
    """A copy in evaluation mode in which each 1x1 convolution behind an upsampling has changed places with it.

    Only where that is less work: where the convolution makes no more features than it takes. The names of the two
    change places too. The module itself where there are none.
    """
    calls = _Calls.of(module)
    new: dict[nn.Module, nn.Module] = {}
    for convolution in calls.of_type(*_FORWARD):
        source = calls.only_source(convolution)
        if source is not None and _commute(source, convolution):
            new |= {source: convolution, convolution: source}
    return _copy_with(module, new)


class _Calls:
    """Which module is called on which module's output, through a whole net."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self.nodes: dict[nn.Module, list[fx.Node]] = {}
        self.borrowed: set[int] = set()
        for node in graph.nodes:
            if node.op == "call_module":
                self.nodes.setdefault(root.get_submodule(str(node.target)), []).append(node)
            elif node.op == "get_attr":
                self.borrowed.add(id(_attribute(root, str(node.target))))
        self.module = {node: part for part, nodes in self.nodes.items() for node in nodes}

    @classmethod
    def of(cls, module: nn.Module) -> _Calls:
        """No calls where the module cannot be traced."""
        try:
            graph = _Tracer(module).trace(module)
        except Exception:  # what a symbol in place of a tensor does to anybody's code cannot be told beforehand
            graph = fx.Graph()
        return cls(module, graph)

    def of_type(self, *types: type[nn.Module]) -> list[nn.Module]:
        return [part for part in self.nodes if type(part) in types and self._is_plain(part)]

    def only_source(self, part: nn.Module) -> nn.Module | None:
        """The one module that feeds `part`, and feeds nothing else, whenever either is called."""
        sources = [self._source(node) for node in self.nodes[part]]
        modules = {self.module.get(source) for source in sources if source is not None}
        if len(modules) != 1 or None in sources:
            return None
        (found,) = modules
        if found is None or len(self.nodes[found]) != len(sources) or not self._is_plain(found):
            return None
        return found

    def _source(self, node: fx.Node) -> fx.Node | None:
        source = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        while isinstance(source, fx.Node) and len(source.users) == 1:
            if type(self.module.get(source)) not in _PASSED_THROUGH:
                return source
            source = source.args[0] if source.args else None
        return None

    def _is_plain(self, part: nn.Module) -> bool:
        """Nothing hooks into it, and nobody else reads its weights."""
        hooked = part._forward_hooks or part._forward_pre_hooks
        return not hooked and not any(id(tensor) in self.borrowed for tensor in _tensors(part))


class _Tracer(fx.Tracer):
    """Sees a Net without the check of its image's shape, which no symbol could pass."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.traced_func_name = "scores" if isinstance(root, Net) else "forward"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in {*_FORWARD, *_TRANSPOSED} or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m, forward, args, kwargs):  # type: ignore[no-untyped-def]  # signature of torch.fx
        return super().call_module(m, m.scores if isinstance(m, Net) else forward, args, kwargs)


def _batch_norm(norm: nn.Module) -> nn.Module:
    assert isinstance(norm, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
    with torch.device("meta"):  # every tensor is replaced by the instance norm's own
        new = _BATCH_NORMS[type(norm)](norm.num_features, norm.eps, norm.momentum, norm.affine)
    new.weight, new.bias = norm.weight, norm.bias
    for name, statistic in norm.named_buffers(recurse=False):
        new.register_buffer(name, statistic)
    return new


def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(convolution, (*_FORWARD, *_TRANSPOSED))
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias.double() * scale
        if norm.affine:
            shift = shift + norm.bias.double()
        weight = convolution.weight
        if isinstance(convolution, _TRANSPOSED):  # weight (in, out / groups, ...): outputs of a group lie side by side
            groups = convolution.groups
            by_input = scale.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
            factor = by_input.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
        else:
            factor = scale.reshape(-1, *[1] * (weight.ndim - 1))
        new = _sharing_copy(convolution)
        new.weight = nn.Parameter((weight.double() * factor).to(weight.dtype), requires_grad=False)
        new.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
    return new


def _commute(upsampling: nn.Module, convolution: nn.Module) -> bool:
    if type(upsampling) not in _UPSAMPLINGS or type(convolution) not in _FORWARD:
        return False
    assert isinstance(upsampling, nn.Upsample)
    assert isinstance(convolution, _FORWARD)
    factors = upsampling.scale_factor if isinstance(upsampling.scale_factor, tuple) else (upsampling.scale_factor,)
    return (
        all(factor is not None and factor >= 1 for factor in factors)
        and upsampling.mode in _WEIGHTS_SUM_TO_ONE
        and {*convolution.kernel_size, *convolution.stride} == {1}
        and set(convolution.padding) <= {0}
        and convolution.out_channels <= convolution.in_channels
    )


def _copy_with(module: Module, new: Mapping[nn.Module, nn.Module]) -> Module:
    """A copy that shares the tensors, in evaluation mode, with parts replaced wherever they stand."""
    if not new:
        return module
    memo: dict[int, object] = {id(tensor): tensor for tensor in _tensors(module, recurse=True)}
    if module in new:
        copied = copy.deepcopy(new[module], memo)
    else:
        copied = copy.deepcopy(module, memo)
        # What the copy of a part is called is what the part is called: places are found by the original's names.
        made = {part: _sharing_copy(other) for part, other in new.items()}
        for path, part in module.named_modules(remove_duplicate=False):
            if part in new:
                parent, _, name = path.rpartition(".")
                setattr(copied.get_submodule(parent), name, made[part])
    return copied.eval()  # type: ignore[return-value]  # a root that is itself replaced has a near type


def _sharing_copy(module: Module) -> Module:
    return copy.deepcopy(module, {id(tensor): tensor for tensor in _tensors(module, recurse=True)})


def _tensors(module: nn.Module, recurse: bool = False) -> list[Tensor]:
    return [*module.parameters(recurse=recurse), *module.buffers(recurse=recurse)]


def _attribute(root: nn.Module, path: str) -> object:
    parent, _, name = path.rpartition(".")
    return getattr(root.get_submodule(parent), name)


def _keeps_statistics(norm: nn.Module) -> bool:
    return getattr(norm, "running_mean", None) is not None and getattr(norm, "running_var", None) is not None
