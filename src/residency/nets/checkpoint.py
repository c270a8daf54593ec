"""A checkpoint of somebody else's training: tensors, and the numbers and words beside them.

Read as `residency.nets.weights` reads a state dict, by torch's restricted reader and only where it names nothing else
than is listed here. Trainings keep figures as numpy's scalars; these are read by stand-ins of our own, which know the
plain number formats and nothing else, so that a file can make neither objects nor memory of numpy.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from residency.errors import TrainingError
from residency.nets.weights import LARGEST_FILE, OF_A_STATE_DICT, read_torch

_NAMES = re.compile(
    rf"{OF_A_STATE_DICT.pattern}|numpy(\._core|\.core)?(\.multiarray)? (scalar|dtype)|_codecs encode|torch device"
)
"""What a checkpoint may name: what a state dict names, numpy's scalars, and the device that it was made on."""

_NUMBERS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u1": "B", "b1": "?"}
"""numpy's name of a number format -> struct's."""


class _Kind:
    """In place of numpy's dtype: a plain number format."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in _NUMBERS:
            raise ValueError(f"numpy scalars of kind {str(name)[:20]!r} are not read")
        self.name = str(name)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if len(state) > 1 and state[1] == ">":
            raise ValueError("numpy scalars of another byte order are not read")


def _scalar(kind: _Kind, data: bytes) -> float | int | bool:
    """In place of numpy's function: the number itself."""
    (value,) = struct.unpack("<" + _NUMBERS[kind.name], data)
    return value  # type: ignore[no-any-return]


_STAND_INS: list[Any] = [
    (_scalar, "numpy._core.multiarray.scalar"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_Kind, "numpy.dtype"),
]


def read_checkpoint(file: Path) -> Mapping[str, Any]:
    """What a checkpoint holds, by name: tensors and plain values. Nothing in it is checked further.

    Raises TrainingError, in one line, for a file that cannot be read, is too large, or names anything beyond tensors,
    plain numbers and devices.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError as error:
        raise TrainingError(f"checkpoint {file} cannot be read: {error.strerror or error}") from None
    if size > LARGEST_FILE:
        raise TrainingError(f"checkpoint {file} has {size} bytes, more than the {LARGEST_FILE} that are read")
    if start[:4] != b"PK\x03\x04":
        raise TrainingError(f"checkpoint {file} is no file of torch.save (torch 1.6 or later)")
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            held = read_torch(file, start, size, _NAMES)
    except TrainingError:
        raise
    except Exception as error:  # whatever a reader says to damaged bytes
        said = (str(error).splitlines() or [""])[0][:200]
        raise TrainingError(f"checkpoint {file} is damaged or holds more than tensors and numbers: {said}") from None
    if not isinstance(held, Mapping) or not all(isinstance(key, str) for key in held):
        raise TrainingError(f"checkpoint {file} holds no values by name")
    return held
