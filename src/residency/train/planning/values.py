"""What planning takes and gives: limits, a machine, choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What a person sets.

    memory_gib       most memory that training may take
    latency_seconds  most time for one case of median size on a plain CPU, the network's part
    hours            for the training
    threads          of the machine that are used
    """

    memory_gib: float
    latency_seconds: float
    hours: float
    threads: int


@dataclass(frozen=True)
class Machine:
    """What a machine does in a second, with all threads that are used.

    answering  multiply-accumulates of a net that answers
    learning   multiply-accumulates of a net that learns, as of an answer; a step costs about three times as many
    measured   False: assumed
    """

    answering: float
    learning: float
    measured: bool
    cpu: str

    @property
    def how(self) -> str:
        """In words."""
        return f"measured on this machine ({self.cpu})" if self.measured else f"assumed for a {self.cpu}"


@dataclass(frozen=True)
class Choice:
    """One key of the training file, its value, and the reason in one sentence."""

    key: str
    value: Any
    why: str
