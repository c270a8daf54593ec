"""The training loop. `train` is the whole of it; what it calls stands below it in the order of the calls.

Seeded: the random numbers of a crop are a function of the seed and the crop's number alone, so a run that was stopped
or killed and taken up again ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from residency.datasets import Case, digest
from residency.datasets.cache import PreparedCache, read_prepared
from residency.errors import TrainingError
from residency.nets.slices import bare
from residency.train.config import TrainingConfig
from residency.train.judge import Exam, figure_of
from residency.train.log import RunLog
from residency.train.progress import Pace, Progress
from residency.train.report import effective
from residency.train.state import Outcome, State, save_weights
from residency.train.step import batches_are_whole, learn
from residency.train.synthesis import read_painting
from residency.train.task import column_of_labels, task_of
from residency.train.together import remarks_on_images
from residency.train.written import write_whole


def train(
    config: TrainingConfig,
    learning: Sequence[Case],
    judging: Sequence[Case],
    run: Path,
    report: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Outcome:
    """Train on `learning`, choose the best running average on `judging`.

    `run` then holds `best.pt`, `checkpoint.pt`, `config.json` with all settings, and `log.jsonl`, as
    `residency.train.log` tells it.

    Takes up a checkpoint that it finds. `cancelled` is asked after each step; True saves and returns. Raises
    TrainingError for data that cannot be trained on, a foreign checkpoint or a loss that is no longer a number.
    """
    to_learn, to_judge = load(learning, config), load(judging, config)
    checkpoint, data = run / "checkpoint.pt", digest([*learning, *judging])
    state = State.resumed(checkpoint, config, data) if checkpoint.exists() else State.fresh(config, data)
    write_whole(run / "config.json", effective(config, data))
    schedule, pace = config.schedule, Pace(config.schedule.steps, config.schedule.batch)
    notes = remarks_on_images([tuple(exam.image.shape) for exam in to_learn], config.patch)
    with workers(config.threads) as pool, RunLog(run, state.step) as log:
        together = batches_are_whole(state.net, config)
        while not state.ended(schedule):
            started, rate = time.monotonic(), schedule.rate_at(state.step)
            loss = learn(state, to_learn, config, pool, together=together)
            figure, better = None, False
            if state.step == schedule.steps or state.step % schedule.validate_every == 0:
                figure = figure_of(state.average, to_judge, config, pool)
                better = state.note(figure)
                if better:
                    save_weights(bare(state.average).state_dict(), run / "best.pt")
            taken = time.monotonic() - started
            state.seconds += taken
            crops_second, left = pace.after(state.step, taken)
            done = Progress(state.step, loss, figure, better, crops_second, left, rate, 0.0, state.seconds, notes)
            notes = ()
            log(done)
            report(done)
            stop = cancelled()
            if stop or state.ended(schedule) or state.step % schedule.save_every == 0:
                log.keep()
                state.save(checkpoint, config)
            if stop:
                break
    return state.outcome(schedule)


@contextmanager
def workers(threads: int) -> Iterator[Executor]:
    """Threads that each compute one crop or one exam at a time, with operations that give the same bits every time."""
    within_one_operation = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(within_one_operation)


def load(cases: Sequence[Case], config: TrainingConfig) -> tuple[Exam, ...]:
    """Read and prepare all cases, exactly as a hospital's series is prepared."""
    data, classifies = config.data, task_of(config) == "classification"
    kept = None if data.cache is None else PreparedCache(data.cache, round(data.cache_gib * 2**30))
    exams = []
    for case in cases:
        if len(case.images) != 1 or (case.reference is None and not classifies):
            needed = "a class" if classifies else "a reference"
            raise TrainingError(f"case '{case.name}': a net is trained on cases of one image with {needed}")
        made = read_prepared(case, config.recipe, len(data.classes), kept)
        image = torch.from_numpy(made.images[0])
        if classifies:
            column = column_of_labels(config)
            if column not in case.labels:
                raise TrainingError(f"case '{case.name}' has no class in column '{column}'")
            label = case.labels[column]
            exams.append(Exam(case.name, image, torch.tensor(label), label))
        else:
            assert made.labels is not None
            labels = torch.from_numpy(made.labels.astype(np.int64))
            exams.append(Exam(case.name, image, labels, regions=read_painting(case, config)))
    if not exams:
        raise TrainingError("there is no case to train on or none to choose by; check the splits in the table")
    return tuple(exams)
