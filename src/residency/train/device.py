"""What computes on this machine, found from the training file's `device`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from residency.errors import ConfigError, TrainingError
from residency.train.device_part import DevicePart


@dataclass(frozen=True)
class Device:
    """Where nets and crops lie, and in what they are multiplied.

    place  a CPU or one GPU
    half   of a net's products; None: 32 bits
    notes  what a person should know of it
    """

    place: torch.device = field(default_factory=lambda: torch.device("cpu"))
    half: torch.dtype | None = None
    notes: tuple[str, ...] = ()

    @property
    def repeats(self) -> bool:
        """True if every operation gives the same bits each time."""
        return self.place.type == "cpu"

    def precision(self) -> AbstractContextManager[object]:
        """A context, of the thread that enters it, in which a net computes.

        Nothing is kept from one operation to the next: threads would find each other's weights there.
        """
        if self.half is None:
            return nullcontext()
        return torch.autocast(self.place.type, self.half, cache_enabled=False)

    def scaler(self) -> torch.amp.GradScaler | None:
        """What keeps gradients of f16 from vanishing; None where none is needed."""
        return torch.amp.GradScaler(self.place.type) if self.half == torch.float16 else None

    def told(self) -> str:
        """For a card, such as `NVIDIA H200, bf16`; nothing of a CPU in 32 bits."""
        named = [torch.cuda.get_device_name(self.place)] if self.place.type == "cuda" else []
        return ", ".join([*named, *([_NAMES[self.half]] if self.half else [])])


CPU = Device()
"""In 32 bits."""

_NAMES = {torch.bfloat16: "bf16", torch.float16: "f16"}
_TYPES = {name: kind for kind, name in _NAMES.items()}


def find_device(part: DevicePart, number: int = 0) -> Device:
    """What the training file asks for, of this machine. Raises ConfigError for a GPU that torch does not find.

    number  of the process on this machine: each takes a GPU of its own
    """
    there = torch.cuda.is_available()
    if part.kind == "cuda" and not there:
        raise ConfigError("device.kind: cuda, but torch finds no GPU here; say cpu, or leave it out")
    if part.kind != "cpu" and there:
        if number >= torch.cuda.device_count():
            raise ConfigError(f"{number + 1} processes or more, but torch finds {torch.cuda.device_count()} GPUs here")
        place, has_bf16 = torch.device("cuda", number), torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        place, has_bf16 = torch.device("cpu"), _cpu_has_bf16()
    if part.precision == "auto":
        return Device(place, torch.bfloat16 if has_bf16 else None)
    half = _TYPES.get(part.precision)
    slow = place.type == "cpu" and half is not None and not (half == torch.bfloat16 and has_bf16)
    notes = (f"this processor has no {part.precision} of its own: f32 or auto would be faster here",) if slow else ()
    return Device(place, half, notes)


def _cpu_has_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@contextmanager
def enough_memory() -> Iterator[None]:
    """A lack of memory, on the CPU or on a GPU, becomes a TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            words in str(error) for words in _LACKS
        ):
            raise
        raise TrainingError(
            "there is not enough memory for this training; take a smaller patch, a smaller schedule.batch, or fewer "
            "features of the net"
        ) from None


_LACKS = ("DefaultCPUAllocator", "Storage size calculation overflowed")
"""Words of torch, for which a CPU without memory is an error as any other."""
