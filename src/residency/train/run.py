"""A training file carried out: from its cases to weights in a run folder, and from there to a graph and its report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch

from residency.datasets import digest
from residency.errors import TrainingError
from residency.nets.net import Net
from residency.nets.slices import bare
from residency.train.answer import Answering, answering
from residency.train.config import TrainingConfig
from residency.train.device import enough_memory
from residency.train.export import Parity, export_graph, prove_parity
from residency.train.judge import Exam
from residency.train.loop import load, train, workers
from residency.train.progress import Progress, Tell, silent, watched
from residency.train.report import training_report
from residency.train.sources import divided
from residency.train.state import Outcome, State, make_net, read_tensors
from residency.train.step import batches_are_whole
from residency.train.team import ALONE, Team
from residency.train.written import check_writable, claimed, write_whole

GRAPH, REPORT = "graph.onnx", "training.json"

_PROOFS = 3
"""Real shapes on which parity is proven."""


def run_training(  # noqa: PLR0913 -- a run: what, where, whom to tell, who else
    config: TrainingConfig,
    run: Path,
    report: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    team: Team = ALONE,
    tell: Tell = silent,
    *,
    fresh: bool = False,
) -> Outcome:
    """Train, or go on training, in the folder `run`; see `residency.train.loop.train`.

    tell   is told how many cases are prepared
    fresh  begin anew where a run was begun before

    Raises TrainingError also where another training is at work in the folder, or memory does not suffice.
    """
    with enough_memory(), ExitStack() as claim:
        batches_are_whole(make_net(config), config)  # what no data could teach is said before any are read
        learning, judging = divided(config)
        if team.speaks:
            claim.enter_context(claimed(run))
        if fresh:
            _forget(run, team)
        return train(config, learning, judging, run, report, cancelled, team, tell)


def _forget(run: Path, team: Team) -> None:
    """What a run was taken up from; no process of the team goes on before it is gone."""
    if team.speaks:
        for old in ("checkpoint.pt", "best.pt"):
            (run / old).unlink(missing_ok=True)
    team.any(False)


@dataclass(frozen=True)
class Exported:
    """What `export_run` wrote."""

    graph: Path
    report: Path
    outcome: Outcome
    answer: Answering
    digest: str
    parities: tuple[Parity, ...]


def export_run(
    config: TrainingConfig, run: Path, folder: Path, tell: Tell = silent, *, unfinished: bool = False
) -> Exported:
    """Write the best weights of a run as graph.onnx, and training.json with what a card tells about them.

    Parity with ONNX Runtime and OpenVINO is proven on windows of real prepared images, and on one that is larger.
    Nothing is written where it fails. Raises TrainingError for a run that is missing, of another training file, or not
    finished (unless `unfinished`), and for a folder that cannot be written.
    """
    check_writable(folder)
    learning, judging = divided(config)
    state = State.resumed(run / "checkpoint.pt", config, digest([*learning, *judging]))
    if not state.ended(config.schedule) and not unfinished:
        raise TrainingError(
            f"the run in {run} has done {state.step} of {config.schedule.steps} steps; go on training, or export it as "
            "it is with --unfinished"
        )
    learnt = make_net(config).eval()
    bare(learnt).load_state_dict(read_tensors(run / "best.pt"))
    exams = load(watched("preparing the persons held out", judging, tell), config)
    with workers(config.threads) as pool:
        answer = answering(learnt, exams, config, pool, tell)
    graph, parities = proven(answer.net, exams, config, tell)
    outcome = state.outcome(config.schedule)
    found = write_graph(folder, graph, training_report(config, learning, judging, outcome, answer, parities, tell))
    return Exported(folder / GRAPH, folder / REPORT, outcome, answer, found, parities)


def proven(
    net: Net, exams: Sequence[Exam], config: TrainingConfig, tell: Tell = silent
) -> tuple[bytes, tuple[Parity, ...]]:
    """The graph of a net, and how well two engines agree with it. Raises TrainingError where they do not."""
    net = net.eval()
    by_shape = {exam.image.shape: exam.image[None].numpy() for exam in exams}
    images = [image[cut] for image in by_shape.values() if (cut := _taken(net, image.shape, config.patch))][:_PROOFS]
    larger = [n + multiple for n, multiple in zip(config.patch, net.multiples, strict=True)]
    images.append(torch.randn(1, net.channels, *larger, generator=torch.Generator().manual_seed(config.seed)).numpy())
    tell("writing the graph", 0, 1)
    graph = export_graph(net)
    tell("writing the graph", 1, 1)
    return graph, prove_parity(net, graph, watched("comparing it on two engines", images, tell))


def write_graph(folder: Path, graph: bytes, told: dict[str, Any]) -> str:
    """graph.onnx and training.json in a folder; SHA-256 of the graph, which stands in the second too."""
    digest_of_graph = hashlib.sha256(graph).hexdigest()
    whole = told | {"graph_sha256": digest_of_graph}
    write_whole(folder / GRAPH, graph)
    write_whole(folder / REPORT, (json.dumps(whole, indent=1, ensure_ascii=True) + "\n").encode())
    return digest_of_graph


def _taken(net: Net, shape: Sequence[int], most: Sequence[int]) -> tuple[EllipsisType | slice, ...]:
    """The middle of an image (n, channels, S, R, C): as much as a window holds and the net takes at once.

    Nothing where that is too small. Sums over more than a window, which instance normalisation takes, differ by more
    than rounding, and nobody takes them.
    """
    sides = [
        min(side, window) - min(side, window) % multiple
        for side, window, multiple in zip(shape[2:], most, net.multiples, strict=True)
    ]
    if any(side < max(least, 1) for side, least in zip(sides, net.leasts, strict=True)):
        return ()
    starts = [(whole - side) // 2 for whole, side in zip(shape[2:], sides, strict=True)]
    return (..., *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))
