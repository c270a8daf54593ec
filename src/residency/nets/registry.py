"""Every architecture by its name. Imports torch; what a training file needs of a net is in `residency.nets.known`."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from residency.errors import ConfigError
from residency.nets import (
    attention_unet,
    brainmage,
    densenet,
    efficientnet,
    encoder_unet,
    monet,
    plain_unet,
    planned_unet,
    residual_unet,
    resnet,
    unet,
    vgg,
)
from residency.nets.architecture import Architecture
from residency.nets.known import check_parameters, must_be_known, short
from residency.nets.net import Net

_FILES = (
    unet,
    residual_unet,
    planned_unet,
    brainmage,
    monet,
    plain_unet,
    attention_unet,
    encoder_unet,
    resnet,
    vgg,
    densenet,
    efficientnet,
)
"""To add an architecture: a file that ends in ARCHITECTURES, and its name here. Tests, table and docs follow."""

NETS: Mapping[str, Architecture] = {one.name: one for file in _FILES for one in file.ARCHITECTURES}
"""Name in a training file -> architecture."""


def named(name: str) -> Architecture:
    """The architecture of that name. Raises ConfigError, with the nearest known name, for an unknown one."""
    return NETS[must_be_known("net", name, NETS)]


def build(name: str, **parameters: Any) -> Net:
    """The named net, freshly initialised from torch's global generator.

    Raises ConfigError, in one line, for an unknown net or parameter (with the nearest known name), a value of another
    kind than the default, and values that make no net.
    """
    maker = named(name).make
    check_parameters(name, parameters, {key: one.default for key, one in signature(maker).parameters.items()})
    try:
        made = maker(**parameters)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:  # the last three: far too large
        why = (str(error).splitlines() or ["too large"])[0]
        raise ConfigError(f"net '{name}' cannot be built from {short(parameters)}: {why}") from None
    made.registered = name
    return made
