"""Engine: the port through which a graph runs. Several named inputs and outputs from the first day.

Every implementation passes `residency.testing.engine.EngineContract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]


class Precision(StrEnum):
    """What the engine computes in. Always explicit: engines otherwise choose bf16 by themselves on some CPUs."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True)
class EngineBuild:
    """What determines an engine's results on this machine, for result UIDs, admissions and caches."""

    name: str
    version: str
    device: str
    capabilities: tuple[str, ...]
    threads: int

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.device} {'/'.join(self.capabilities)} x{self.threads}"


class Network(Protocol):
    """A compiled graph. Used from one thread; `submit` may run ahead of `collect`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input tensors."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output tensors."""
        ...

    @property
    def precision(self) -> Precision:
        """The precision that is really executed, as the engine reports it."""
        ...

    def submit(self, tensors: Mapping[str, Tensor]) -> int:
        """Start one inference on named tensors, float32, (batch, channel, slice, row, column) or the graph's own rank.

        Returns a ticket. Blocks while as many inferences run as the engine runs side by side.
        Raises EngineError for missing or unknown names and wrong ranks.
        """
        ...

    def collect(self, ticket: int) -> Mapping[str, Tensor]:
        """Wait for one inference; named outputs. Each ticket is collected once, in any order."""
        ...


class Engine(Protocol):
    """Makes networks from graphs that passed `residency.models`' checks."""

    @property
    def build(self) -> EngineBuild:
        """Version, device and CPU capabilities."""
        ...

    def load(self, graph: bytes, *, precision: Precision) -> Network:
        """Compile an ONNX graph. Raises EngineError if it cannot be compiled or the precision cannot be had."""
        ...
