"""The networks of a cross-validation as one graph: the mean of their class probabilities."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from residency.datasets import digest
from residency.errors import TrainingError
from residency.nets.ensemble import Ensemble
from residency.nets.net import Net
from residency.nets.slices import bare
from residency.train.answer import Answering, answering
from residency.train.config import TrainingConfig
from residency.train.crossing import finished, folds_of
from residency.train.data_part import SPLITS
from residency.train.evidence.trained import Trained, training_of
from residency.train.loop import load, workers
from residency.train.progress import Tell, silent, watched
from residency.train.report import training_report
from residency.train.run import GRAPH, REPORT, Exported, proven, write_graph
from residency.train.sources import divided, gathered
from residency.train.state import make_net, read_tensors
from residency.train.task import scores_apart
from residency.train.written import check_writable

SHIPPED = "Shipped: the ensemble of all of them, the mean of their class probabilities."
"""What a card says of how many networks there are."""


def export_folds(config: TrainingConfig, folder: Path, out: Path, tell: Tell = silent) -> Exported:
    """Write the ensemble of all folds as graph.onnx, and training.json for its card, as `export_run` does for one run.

    `export` of the training file is applied to each fold on its own persons. Raises TrainingError where a fold is
    missing or not finished.
    """
    check_writable(out)
    if not (folder / SPLITS).is_file():
        raise TrainingError(f"{folder} holds no file of folds; begin with: residency cross-validate")
    data = digest([case for case in gathered(config).cases if case.split == config.data.train])
    members: list[Net] = []
    trained: list[Trained] = []
    for k, one in enumerate(folds_of(config, folder)):
        run = folder / f"fold-{k}"
        learning, judging = divided(one)
        outcome = finished(one, run, data)
        if outcome is None:
            raise TrainingError(f"fold {k} in {run} is not finished; go on with: residency cross-validate")
        net = make_net(one).eval()
        bare(net).load_state_dict(read_tensors(run / "best.pt"))
        of_fold = partial(_of_fold, k, tell)
        exams = load(watched("preparing the persons held out", judging, of_fold), one)
        with workers(one.threads) as pool:
            answer = answering(net, exams, one, pool, of_fold)
        members.append(answer.net)
        trained.append(Trained(run, one, learning, judging, outcome))
    graph, parities = proven(Ensemble(members, exclusive=not scores_apart(config)), exams, config, tell)
    first = trained[0]
    told = training_report(config, first.learning, first.judging, first.outcome, answer, parities, tell)
    for of_one_run in ("chosen", "shipped", "history"):
        del told[of_one_run]
    told["training"] = training_of(config, trained, SHIPPED).model_dump(mode="json")
    told["folds"] = [
        {"chosen_step": one.outcome.best_at, "of_steps": one.outcome.step, "figure": one.outcome.best}
        for one in trained
    ]
    found = write_graph(out, graph, told)
    return Exported(out / GRAPH, out / REPORT, first.outcome, Answering(members[0]), found, parities)


def _of_fold(fold: int, tell: Tell, what: str, done: int, of: int) -> None:
    tell(f"fold {fold}: {what}", done, of)
