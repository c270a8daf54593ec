"""What each form of a network costs: parameters, multiply-accumulates, time per training step, latency.

Times are of one thread, in rounds over all forms, so that a busy moment hits all of them; medians. A form that was
carried out of 2D is timed as it stands and folded, where folding makes another network of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import openvino
import torch
from torch import nn

from acs_parts.networks import METHODS, solid
from acs_parts.recipes import faster
from residency.nets.acs import fold
from residency.nets.cost import macs, size
from residency.nets.net import Net
from residency.nets.rewrites import prepared_for_export

FOLDED = ("ACS", "soft ACS", "mean ACS")


@dataclass(frozen=True)
class Subject:
    """A network of the bench on a grid; `batch` images make a training step, one is answered at a time."""

    net: str
    parameters: Mapping[str, Any]
    grid: tuple[int, int, int]
    batch: int


@dataclass
class Cost:
    """Of one form; `images` of a training step, times in ms by what was timed."""

    images: str
    parameters: int
    macs: int
    times: dict[str, list[float]] = field(default_factory=dict)

    def median(self, what: str) -> float | None:
        """None where it was not timed."""
        return statistics.median(self.times[what]) if what in self.times else None


def costs(subject: Subject, rounds: int) -> dict[str, Cost]:
    """Method -> its cost; without rounds nothing is timed, only counted."""
    torch.set_num_threads(1)
    images = "x".join(str(n) for n in (subject.batch, subject.parameters.get("channels", 1), *subject.grid))
    found: dict[str, Cost] = {}
    timed: list[tuple[Cost, str, Callable[[], object]]] = []
    for method in METHODS:
        net = solid(subject.net, method, 0, None, **subject.parameters)
        assert isinstance(net, Net)
        cost = found[method] = Cost(images, size(net).trainable, macs(net, subject.grid))
        if not rounds:
            continue
        answering = solid(subject.net, method, 0, None, **subject.parameters).eval()
        timed += [(cost, "step", _step(net, subject)), (cost, "eager", _eager(answering, subject))]
        timed.append((cost, "OpenVINO", _openvino(answering, subject)))
        if method in FOLDED:
            folded = fold(answering).eval()
            timed.append((cost, "eager, folded", _eager(folded, subject)))
            timed.append((cost, "OpenVINO, folded", _openvino(folded, subject)))
    for call in range(rounds + 1):
        for cost, what, work in timed:
            began = time.perf_counter()
            work()
            if call:  # the first makes buffers and warms caches
                cost.times.setdefault(what, []).append(1000 * (time.perf_counter() - began))
    return found


def _images(net: nn.Module, subject: Subject, count: int) -> torch.Tensor:
    assert isinstance(net, Net)
    return torch.rand(count, net.channels, *subject.grid, generator=torch.Generator().manual_seed(0))


def _step(net: nn.Module, subject: Subject) -> Callable[[], object]:
    images = faster(_images(net, subject, subject.batch))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step() -> None:
        net.train()
        optimiser.zero_grad()
        net(images).square().mean().backward()
        optimiser.step()

    return step


def _eager(net: nn.Module, subject: Subject) -> Callable[[], object]:
    image = faster(_images(net, subject, 1))

    def answer() -> None:
        with torch.inference_mode():
            net(image)

    return answer


def _openvino(net: nn.Module, subject: Subject) -> Callable[[], object]:
    """Float32 and one thread, on this grid; prepared as for export."""
    assert isinstance(net, Net)
    image = _images(net, subject, 1)
    model = openvino.convert_model(
        _Scores(prepared_for_export(net.eval())), example_input=image, input=list(image.shape)
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    given = image.numpy()
    return lambda: compiled([given])


class _Scores(nn.Module):
    """A net without the check of its image, which a trace cannot follow."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net.scores(image)
