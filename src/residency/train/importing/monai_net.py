"""Networks of MONAI by name, out of a list, with plain arguments and the weights of a file: data in, no code."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from residency.errors import InputError, TrainingError
from residency.nets.checkpoint import read_checkpoint
from residency.nets.net import Net
from residency.nets.weights import LARGEST_FILE, must_fit
from residency.train.importing.monai_config import Described

_UNETS = ("UNet", "Unet", "AttentionUnet", "BasicUNet", "BasicUnet", "DynUNet", "DynUnet", "SegResNet", "VNet")
_CLASSIFIERS: tuple[str, ...] = (
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "DenseNet264",
    "DenseNet",
    "Densenet121",
    "ResNet",
)
_CLASSIFIERS += ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
NETWORKS = (*_UNETS, *_CLASSIFIERS)
"""Names in monai.networks.nets that are built. All of them take plain arguments and fetch nothing."""

_LARGEST_NUMBER, _LONGEST_LIST, _DEEPEST = 8192, 64, 4
_COUNTS = ("num_res_units", "blocks_down", "blocks_up", "block_config", "layers", "res_block", "nonlinear_blocks")
"""Arguments that say how many layers there are; each is built before its weights can be compared."""
_MOST_LAYERS = 64
_STATE_KEYS = ("model", "state_dict", "net", "network", "network_weights")
"""Under which of these a checkpoint keeps the state dict, if it is not one itself."""


class FromMonai(Net):
    """A network of MONAI, as one of ours: (N, channels, x, y, z) -> logits."""

    def __init__(self, inner: nn.Module, channels: int, multiple: int, least: int) -> None:
        super().__init__()
        self.inner, self.channels, self.multiple, self.least = inner, channels, multiple, least

    def scores(self, image: Tensor) -> Tensor:
        found = self.inner(image)
        scores: Tensor = found[0] if isinstance(found, tuple | list) else found
        return scores


def build_network(described: Described, weights: Path, where: str) -> FromMonai:
    """The network that a configuration describes, with the weights of a file, in evaluation mode.

    Raises InputError, naming network or argument, for what is not on the list or not plain; TrainingError for weights
    that cannot be read or do not fit.
    """
    kind, arguments = described.kind, dict(described.arguments)
    if kind not in NETWORKS:
        raise InputError(f"{where}: the network '{kind}' is not imported; known are {', '.join(NETWORKS)}")
    if arguments.get("pretrained"):
        raise InputError(
            f"{where}: {kind} with pretrained would fetch weights from elsewhere; the bundle's own are taken"
        )
    for key, value in arguments.items():
        most = _MOST_LAYERS if key in _COUNTS else _LARGEST_NUMBER
        _must_be_plain(value, f"{where}: {kind} with {key[:40]}", most)
    dimensions = arguments.get("spatial_dims", 3)
    if dimensions != 3:
        raise InputError(f"{where}: {kind} in {dimensions} dimensions is not imported, only in 3")
    state = _read_state(weights)
    made = _made(kind, arguments, where, "meta")
    state = must_fit(made, made.state_dict(), state, weights)  # before any memory is asked for, and by its own shapes
    net = _made(kind, arguments, where, "cpu")
    net.load_state_dict({**net.state_dict(), **state}, strict=True)
    for part in net.modules():
        if isinstance(getattr(part, "super_head", None), nn.Module):
            part.register_module(
                "super_head", None
            )  # of deep supervision: looked at in training only, and kept aside in a list
    multiple, least = _sides(kind, arguments)
    return FromMonai(net, _channels(arguments), multiple, least).eval()


def _made(kind: str, arguments: Mapping[str, Any], where: str, device: str) -> nn.Module:
    from monai.networks import nets

    try:
        with torch.device(device):
            made: nn.Module = getattr(nets, kind)(**arguments)
    except Exception as error:  # whatever a class says to arguments of strangers
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{where}: {kind} cannot be built from the arguments given: {said}") from None
    return made.eval()


def _must_be_plain(value: object, what: str, most: int, depth: int = 0) -> None:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float) and abs(value) <= most:
        return
    if isinstance(value, str) and len(value) <= 64:
        return
    if depth < _DEEPEST and isinstance(value, list | tuple | Mapping) and len(value) <= _LONGEST_LIST:
        for one in value.values() if isinstance(value, Mapping) else value:
            _must_be_plain(one, what, most, depth + 1)
        return
    raise InputError(f"{what} = {str(value)[:80]} is no plain value that is taken")


def _channels(arguments: Mapping[str, Any]) -> int:
    return int(next((arguments[key] for key in ("in_channels", "n_input_channels") if key in arguments), 1))


def _sides(kind: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Of what each side of the grid must be a multiple, and how long it must be at least."""
    if kind in _CLASSIFIERS:
        return 1, 64
    if kind == "SegResNet":
        multiple = 2 ** (len(arguments.get("blocks_down", (1, 2, 2, 4))) - 1)
    elif kind in ("BasicUNet", "BasicUnet", "VNet"):
        multiple = 16
    else:
        strides = arguments.get("strides", ())
        multiple = prod(max(one) if isinstance(one, list) else int(one) for one in strides)
    return multiple, 2 * multiple


def _read_state(file: Path) -> dict[str, Tensor]:
    """Tensors by name, without what torch's DistributedDataParallel puts before them."""
    if file.suffix == ".safetensors":
        try:
            if file.stat().st_size > LARGEST_FILE:
                raise TrainingError(f"weights {file.name} are larger than the {LARGEST_FILE} bytes that are read")
            held: Mapping[str, Any] = load_file(file, device="cpu")
        except (SafetensorError, OSError) as error:
            raise TrainingError(f"weights {file.name} are damaged: {str(error)[:200]}") from None
    else:
        held = read_checkpoint(file)
        inner = next((held[key] for key in _STATE_KEYS if isinstance(held.get(key), Mapping)), held)
        held = inner
    made = {str(key).removeprefix("module."): value for key, value in held.items()}
    odd = [key for key, value in made.items() if not isinstance(value, Tensor)]
    if odd or len(made) < len(held):
        raise TrainingError(f"weights {file.name} hold '{(odd or ['a name twice'])[0][:80]}', no tensor by name")
    return {key: value.detach() for key, value in made.items()}
