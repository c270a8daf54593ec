"""How fast a form of a network answers on this machine: each measurement in a fresh process, the forms in turns.

A process that ran one form keeps its memory and warm caches, which the next would be credited with or charged for; and
what else a machine does changes from minute to minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from residency.engine import Precision
from residency.errors import EngineError

WARM_UP, RUNS, ROUNDS = 2, 10, 3
LONGEST_S = 1800.0


@dataclass(frozen=True)
class Form:
    """A graph and the precision that it runs in."""

    graph: bytes
    precision: Precision


@dataclass(frozen=True)
class Timing:
    """One form on this machine.

    build      of the engine, with the CPU's instruction sets and the number of threads
    precision  that was really executed
    seconds    of a window, all runs of all rounds after the warm-up
    load_s     to compile it, the least of the rounds; first_s: of the first answer
    peak_mb    most memory of a process that does nothing else, the median of the rounds
    """

    build: str
    precision: Precision
    seconds: tuple[float, ...]
    load_s: float
    first_s: float
    peak_mb: float

    def told(self) -> dict[str, Any]:
        """For a report."""
        return {
            "engine": self.build,
            "precision": str(self.precision),
            "runs": len(self.seconds),
            "median_s": round(median(self.seconds), 5),
            "least_s": round(min(self.seconds), 5),
            "most_s": round(max(self.seconds), 5),
            "load_s": round(self.load_s, 3),
            "first_s": round(self.first_s, 4),
            "peak_mb": round(self.peak_mb, 1),
        }


def timings(
    forms: Mapping[str, Form],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Timing]:
    """Each form, by name, asked about a window of these shapes (by input tensor).

    threads  of the engine; 0: as many as this process may use

    Raises EngineError where a process fails, with what it said last.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in forms}
    with tempfile.TemporaryDirectory(prefix="residency-clock-") as place:
        for name, form in forms.items():
            (Path(place) / f"{name}.onnx").write_bytes(form.graph)
        for number in range(ROUNDS):
            for at, (name, form) in enumerate(forms.items()):
                asked = {
                    "graph": str(Path(place) / f"{name}.onnx"),
                    "precision": str(form.precision),
                    "shapes": {tensor: list(shape) for tensor, shape in shapes.items()},
                    "threads": threads,
                }
                found[name].append(_in_a_process(name, asked))
                if progress is not None:
                    progress(number * len(forms) + at + 1, ROUNDS * len(forms))
    return {name: _together(rounds) for name, rounds in found.items()}


def _in_a_process(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "residency.optimise.clock"]
    try:
        done = subprocess.run(  # noqa: S603 -- ourselves
            command, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{name} did not answer {WARM_UP + RUNS} times within {LONGEST_S:.0f} s") from None
    if done.returncode < 0:
        raise EngineError(f"the process that timed {name} was killed by signal {-done.returncode}; was memory short?")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise EngineError(f"{name} could not be timed: {said[-1] if said else 'no reason given'}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _together(rounds: list[dict[str, Any]]) -> Timing:
    return Timing(
        rounds[0]["build"],
        Precision(rounds[0]["precision"]),
        tuple(second for one in rounds for second in one["seconds"]),
        min(one["load_s"] for one in rounds),
        min(one["first_s"] for one in rounds),
        median(one["peak_mb"] for one in rounds),
    )


def _measure(asked: Mapping[str, Any]) -> dict[str, Any]:
    """In the process of its own."""
    from residency.engines.openvino import OpenVino

    engine = OpenVino(threads=asked["threads"])
    random = np.random.default_rng(0)
    window = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in asked["shapes"].items()}
    started = time.perf_counter()
    network = engine.load(Path(asked["graph"]).read_bytes(), precision=Precision(asked["precision"]))
    loaded = time.perf_counter() - started
    seconds = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        network.collect(network.submit(window))
        seconds.append(time.perf_counter() - started)
    return {
        "build": str(engine.build),
        "precision": str(network.precision),
        "seconds": seconds[WARM_UP:],
        "load_s": loaded,
        "first_s": seconds[0],
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Of this process alone: what `getrusage` tells of a new process begins at the peak of the one that started it."""
    told = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) / 1024 for line in told.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    json.dump(_measure(json.load(sys.stdin)), sys.stdout)
