"""Who answers: the chosen weights of a run, or a package as it ships. Both go through `residency.infer`, as in a
hospital: prepared by the recipe, seen through the windows, brought back to the grid of the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch

from residency.card import Card, Decision, Input, Output, OutputClass, Tiling
from residency.datasets import Case
from residency.datasets.case import SINGLE
from residency.engine import Network, Precision, Tensor
from residency.errors import TrainingError
from residency.nets.net import Net
from residency.nets.slices import bare
from residency.train.answer import answering, within_tasks
from residency.train.config import ExportPart, TrainingConfig
from residency.train.export import INPUT, OUTPUT
from residency.train.judge import OVERLAP
from residency.train.loop import load, workers
from residency.train.sources import image_names
from residency.train.state import Outcome, State, make_net, read_tensors
from residency.train.task import scores_apart, task_of


@dataclass(frozen=True)
class Answerer:
    """Something that answers, and how it is asked.

    network   makes a network for the use of one thread
    contract  a card of which only inputs, outputs (one) and tiling are there
    digest    SHA-256 of what determines its answers
    told      what it is, in words
    outcome   how its training went; None of a package
    threads   how many cases it may be asked about side by side
    """

    network: Callable[[], Network]
    contract: Card
    digest: str
    told: str
    outcome: Outcome | None = None
    threads: int = 1

    @property
    def output(self) -> Output:
        """The output that is judged."""
        return self.contract.outputs[0]


def of_run(config: TrainingConfig, run: Path, judging: Sequence[Case], data: str) -> Answerer:
    """The chosen weights of a run, with what `export` of the training file does to them.

    judging  the cases that chose them
    data     digest of all cases of the training

    Raises TrainingError where the run is missing, or of another training file or other data.
    """
    outcome = State.resumed(run / "checkpoint.pt", config, data).outcome(config.schedule)
    net = make_net(config).eval()
    bare(net).load_state_dict(read_tensors(run / "best.pt"))
    if config.export != ExportPart():
        with workers(config.threads) as pool:
            net = answering(net, load(judging, config), config, pool).net
    else:
        net = within_tasks(net, config)
    weights = hashlib.sha256((run / "best.pt").read_bytes()).hexdigest()
    return Answerer(
        network=lambda: TorchNetwork(net),
        contract=contract_of(config),
        digest=hashlib.sha256(f"run\n{weights}\n{config.digest()}\n{data}".encode()).hexdigest(),
        told=f"weights of step {outcome.best_at:,} of {outcome.step:,} of the run '{config.name}'"
        + ("" if outcome.finished else f", which is not finished ({config.schedule.steps:,} steps)"),
        outcome=outcome,
        threads=config.threads,
    )


def of_package(config: TrainingConfig, folder: Path) -> Answerer:
    """A package on OpenVINO in f32: what ships. Raises TrainingError where it does not go with the training file.

    Its classes are those of the training file, in order; where each is decided by a threshold, the background may be
    left out. Raises PackageError and its kin for a folder that holds no whole package.
    """
    from residency.engines.openvino import OpenVino
    from residency.models.check import check_package
    from residency.models.folder import read_folder

    package = read_folder(folder)
    check_package(package)
    card = package.card
    if len(card.outputs) != 1:
        raise TrainingError(f"{folder}: the card has {len(card.outputs)} outputs; one is judged")
    (output,) = card.outputs
    classes, task = config.data.classes, task_of(config)
    spare = output.decision.rule == "threshold" and output.kind == "segmentation"
    if output.kind != task or len(output.classes) not in (len(classes), len(classes) - spare):
        raise TrainingError(
            f"{folder}: the card's output is a {output.kind} of {len(output.classes)} classes, the training file's a "
            f"{task} of {len(classes)}; they do not belong together"
        )
    (graph,) = (payload.data for payload in package.payloads if payload.role == "graph")
    if len(config.data.tasks) > 1 and output.decision.activation != "sigmoid":
        raise TrainingError(
            f"{folder}: the card's activation is {output.decision.activation}, over the classes of all columns "
            "together; where data.tasks has several, it is a sigmoid of each"
        )
    network = OpenVino(threads=config.threads).load(graph, precision=Precision.F32)
    identity = card.identity
    return Answerer(
        network=lambda: network,
        contract=card,
        digest=hashlib.sha256(f"package\n{package.digest}".encode()).hexdigest(),
        told=f"package '{identity.name}' {identity.version} on OpenVINO, f32 ({package.digest[:19]}...)",
    )


def contract_of(config: TrainingConfig) -> Card:
    """What a card of this training file would say of inputs, outputs and tiling; the rest is left out."""
    # Of several tasks several classes are found, one a task: the likeliest of all would hide the others.
    rule: Literal["argmax", "threshold"] = "threshold" if len(config.data.tasks) > 1 else "argmax"
    decision = Decision(activation="sigmoid" if scores_apart(config) else "softmax", rule=rule)
    classes = tuple(OutputClass.model_construct(index=k, name=name) for k, name in enumerate(config.data.classes))
    output = Output.model_construct(
        name="found", tensor=OUTPUT, kind=task_of(config), classes=classes, decision=decision
    )
    shown = image_names(config)
    fed: list[dict[str, Any]] = [
        {"name": name, "tensor": INPUT, "recipe": config.recipe} | ({"channel": channel} if len(shown) > 1 else {})
        for name, channel in zip(_input_names(shown), shown, strict=True)
    ]
    parts: dict[str, Any] = {
        "inputs": tuple(Input.model_construct(**one) for one in fed),
        "outputs": (output,),
        "tiling": Tiling(window=config.patch, overlap=OVERLAP),
    }
    return Card.model_construct(**parts)


def _input_names(shown: Sequence[str]) -> list[str]:
    """Names that inputs of a card may have, each once: those of the images where that is possible."""
    if len(shown) == 1:
        return [SINGLE]
    plain = [re.sub(r"[^a-z0-9.-]+", "-", name.lower()).lstrip(".-")[:63] for name in shown]
    return plain if all(plain) and len(set(plain)) == len(plain) else [f"{SINGLE}-{k}" for k in range(len(plain))]


class TorchNetwork:
    """A net of this room behind the port that graphs run through, on the CPU."""

    inputs, outputs, precision = (INPUT,), (OUTPUT,), Precision.F32

    def __init__(self, net: Net) -> None:
        self._net = net
        self._tickets = count()
        self._answers: dict[int, Mapping[str, Tensor]] = {}

    def submit(self, tensors: Mapping[str, Tensor]) -> int:
        """Answers at once; returns the ticket to collect it by."""
        ticket = next(self._tickets)
        with torch.inference_mode():
            self._answers[ticket] = {OUTPUT: self._net(torch.from_numpy(tensors[INPUT])).numpy()}
        return ticket

    def collect(self, ticket: int) -> Mapping[str, Tensor]:
        """The answer of a ticket, once."""
        return self._answers.pop(ticket)
