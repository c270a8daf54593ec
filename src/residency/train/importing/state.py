"""Weights of nnU-Net's nets under the names of ours, strictly: nothing missing, nothing left over.

dynamic-network-architectures keeps every layer under several names: `decoder.encoder.*` is `encoder.*` once more, and
`all_modules.N` of a block is its `conv` (0), `norm` (1). They must hold the same values, and are taken once. Heads of
coarser stages are looked at in training only, and left out.

    encoder.stages.S.0.convs.C.conv | norm      -> down.S.C.0 | 1                 (plain)
    decoder.stages.I.convs.C.conv | norm        -> up.I.C.0 | 1                   (plain)
    encoder.stem.convs.0.conv | norm            -> stem.0 | 1                     (residual)
    encoder.stages.S.blocks.B.convN.conv | norm -> down.S.B.convN | normN         (residual)
    encoder.stages.S.blocks.B.skip.K.conv | norm -> down.S.B.shortcut.K | K + 1   (residual)
    decoder.stages.I.convs.0.conv | norm        -> up.I.0 | 1                     (residual)
    decoder.transpconvs.I                       -> grow.I
    decoder.seg_layers.LAST                     -> head
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from residency.errors import TrainingError
from residency.nets.net import Net
from residency.nets.weights import must_fit

_PARTS = {"conv": 0, "norm": 1}

_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
"""Put before every name by torch's DistributedDataParallel and torch.compile."""

_PLAIN = (
    (re.compile(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)"), "down.{0}.{1}.{part}.{name}"),
    (re.compile(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(\w+)"), "up.{0}.{1}.{part}.{name}"),
)
_RESIDUAL = (
    (re.compile(r"encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)"), "stem.{part}.{name}"),
    (
        re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv([12])\.(conv|norm)\.(\w+)"),
        "down.{0}.{1}.{kind}{2}.{name}",
    ),
    (
        re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.([01])\.(conv|norm)\.(\w+)"),
        "down.{0}.{1}.shortcut.{next}.{name}",
    ),
    (re.compile(r"decoder\.stages\.(\d+)\.convs\.0\.(conv|norm)\.(\w+)"), "up.{0}.{part}.{name}"),
)
_RULES = {"planned-unet": _PLAIN, "resenc-unet": _RESIDUAL}


def fitting(net: Net, name: str, state: Mapping[Any, object], file: Path) -> dict[str, Tensor]:
    """The `network_weights` of a checkpoint as the state dict of our net of that name in the registry.

    net  may be without values (torch's meta device): names and shapes are compared

    Raises TrainingError, naming the first differences, where a tensor is missing, left over, of another shape, doubled
    with other values, or not finite.
    """
    stages = len(net.get_submodule("grow"))  # type: ignore[arg-type]  # a list of modules
    heads = {f"decoder.seg_layers.{stage}" for stage in range(stages - 1)}
    found: dict[str, Tensor] = {}
    for key, value in _once(state, file).items():
        if key.rpartition(".")[0] not in heads:
            found[_ours(key, name, stages)] = value
    return must_fit(net, net.state_dict(), found, file)


def _once(state: Mapping[Any, object], file: Path) -> dict[str, Tensor]:
    """Each layer under its first name."""
    made: dict[str, Tensor] = {}
    for long, value in state.items():
        if not isinstance(long, str) or not isinstance(value, Tensor):
            raise TrainingError(f"checkpoint {file}: '{str(long)[:80]}' among the weights is no tensor by name")
        key = (
            _PREFIXES.sub("", long).removeprefix("decoder.") if "decoder.encoder." in long else _PREFIXES.sub("", long)
        )
        key = key.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
        if key in made and not (made[key].shape == value.shape and torch.equal(made[key], value)):
            raise TrainingError(
                f"checkpoint {file}: '{long[:80]}' is not what '{key[:80]}' is, though both are one layer"
            )
        made[key] = value
    return made


def _ours(key: str, name: str, stages: int) -> str:
    """The name in our net; a name that no rule knows stays, and is then refused as left over."""
    for pattern, form in _RULES[name]:
        match = pattern.fullmatch(key)
        if match:
            *places, kind, parameter = match.groups()
            after = int(places[-1]) + _PARTS[kind] if places else 0
            return form.format(*places, part=_PARTS[kind], kind=kind, name=parameter, next=after)
    if key.startswith("decoder.transpconvs."):
        return key.replace("decoder.transpconvs.", "grow.", 1)
    return key.replace(f"decoder.seg_layers.{stages - 1}.", "head.", 1)
