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
    planned_unet,
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
    return NETS[_known("net", name, list(NETS))]


def build(name: str, **parameters: Any) -> Net:
    """The named net, freshly initialised from torch's global generator.

    Raises ConfigError, in one line, for an unknown net or parameter (with the nearest known name), a value of another
    kind than the default, and values that make no net.
    """
    maker = named(name).make
    known = signature(maker).parameters
    for key, value in parameters.items():
        _known(f"parameter of net '{name}'", key, list(known))
        kind = _kind(known[key].default)
        if not (_kind(value) == kind or (kind, _kind(value)) == (_NUMBER, _WHOLE)):
            raise ConfigError(f"parameter '{key}' of net '{name}' is {kind}, got {_short(value)}")
    try:
        return maker(**parameters)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:  # the last three: far too large
        why = (str(error).splitlines() or ["too large"])[0]
        raise ConfigError(f"net '{name}' cannot be built from {_short(parameters)}: {why}") from None


_NUMBER, _WHOLE = "a number", "a whole number"


def _kind(value: object) -> str:
    """What a parameter's value is, for an error: Python would take "no" for true, and True for 1."""
    match value:
        case bool():
            return "true or false"
        case int():
            return _WHOLE
        case float():
            return _NUMBER
        case str():
            return "a word"
        case tuple() | list() if all(_kind(each) == _WHOLE for each in value):
            return "a list of whole numbers"
    return "something else"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def _known(what: str, name: str, known: list[str]) -> str:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"unknown {what} '{name}'{hint} (known: {', '.join(known)})")
    return name
