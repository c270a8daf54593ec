"""Architectures: one file each, one registry. The only room besides `residency.train` that may import torch."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
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
    residual_unet,
    resnet,
    unet,
    vgg,
)
from residency.nets.architecture import Architecture
from residency.nets.net import Net

_FILES = (
    unet,
    residual_unet,
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
    return NETS[_known("net", name, list(NETS))]


def build(name: str, **parameters: Any) -> Net:
    """The named net, freshly initialised from torch's global generator.

    Raises ConfigError, with the nearest known name, for an unknown net or parameter.
    """
    maker = named(name).make
    for key in parameters:
        _known(f"parameter of net '{name}'", key, list(signature(maker).parameters))
    try:
        return maker(**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"net '{name}' cannot be built from {parameters}: {error}") from None


def _known(what: str, name: str, known: list[str]) -> str:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"unknown {what} '{name}'{hint} (known: {', '.join(known)})")
    return name
