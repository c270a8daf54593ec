"""The training loop. `train` is the whole of it; what it calls stands below it in the order of the calls.

Seeded: the random numbers of a crop are a function of the seed and the crop's number alone, so a run that was stopped
or killed and taken up again ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Barrier

import numpy as np
import torch
from torch import Tensor

from residency.datasets import Case, digest
from residency.datasets.cache import PreparedCache, read_prepared
from residency.errors import TrainingError
from residency.nets.slices import bare
from residency.train.book import Book
from residency.train.config import TrainingConfig
from residency.train.device import find_device
from residency.train.differing import SETTINGS
from residency.train.judge import Exam, check_classes, check_held_out, standing_of
from residency.train.progress import Pace, Progress, Tell, silent, watched
from residency.train.report import effective
from residency.train.state import Outcome, State, save_weights
from residency.train.step import Learner
from residency.train.synthesis import read_painting
from residency.train.task import groups_of, task_of
from residency.train.team import ALONE, Team
from residency.train.together import remarks_on_images
from residency.train.written import write_whole


def train(  # noqa: PLR0913, PLR0917 -- a run: what from, where to, whom to tell, who else
    config: TrainingConfig,
    learning: Sequence[Case],
    judging: Sequence[Case],
    run: Path,
    report: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    team: Team = ALONE,
    tell: Tell = silent,
) -> Outcome:
    """Train on `learning`, choose the best running average on `judging`.

    `run` then holds `best.pt`, `checkpoint.pt`, `config.json` with all settings, and `log.jsonl`, as
    `residency.train.log` tells it.

    Takes up a checkpoint that it finds. `cancelled` is asked after each step; True saves and returns. Of a team, each
    process calls this with the same arguments; the first one alone writes and reports. Raises TrainingError for data
    that cannot be trained on, a foreign checkpoint, a loss that is no longer a number, or another process that is gone.
    """
    device = find_device(config.device, team.local)
    to_learn = load(watched("preparing the cases to learn from", learning, tell), config)
    to_judge = load(watched("preparing the cases to choose the weights by", judging, tell), config)
    check_classes((*to_learn, *to_judge), config)
    check_held_out(to_judge, config)
    checkpoint, data = run / "checkpoint.pt", digest([*learning, *judging])
    resumes = checkpoint.exists()
    state = State.resumed(checkpoint, config, data, device) if resumes else State.fresh(config, data, device)
    if team.speaks:
        write_whole(run / SETTINGS, effective(config, data))
    schedule, pace = config.schedule, Pace(config.schedule.steps, config.schedule.batch)
    notes = remarks_on_images([tuple(exam.image.shape[1:]) for exam in to_learn], config.patch)
    books = Book(run, state.step, config.logs) if team.speaks else nullcontext()
    with workers(config.threads, exact=device.repeats) as pool, books as book:
        learner = Learner(state, to_learn, config, pool, device, team)
        while not state.ended(schedule):
            started, rate = time.monotonic(), schedule.rate_at(state.step)
            learnt = learner.step()
            figure, better = _validated(state, to_judge, config, pool, team, run / "best.pt")
            taken = time.monotonic() - started
            state.seconds += taken
            speed, left = pace.after(state.step, taken)
            done = Progress(
                state.step, learnt.loss, figure, better, speed, left, rate, learnt.waiting_share, state.seconds, notes
            )
            notes = ()
            if book is not None:
                book(done)
                report(done)
            stop = team.any(cancelled())
            if book is not None and (stop or state.ended(schedule) or state.step % schedule.save_every == 0):
                book.keep()
                state.save(checkpoint, config)
            if stop:
                break
    return state.outcome(schedule)


def _validated(
    state: State, exams: Sequence[Exam], config: TrainingConfig, pool: Executor, team: Team, best: Path
) -> tuple[float | None, bool]:
    """The figure of the running average and whether it is the best so far; None where no validation is due."""
    if state.step != config.schedule.steps and state.step % config.schedule.validate_every:
        return None, False
    standing = standing_of(state.average, exams, config, pool, team)
    better = state.note(standing)
    if better and team.speaks:
        save_weights(bare(state.average).state_dict(), best)
    return standing.figure, better


@contextmanager
def workers(threads: int, *, exact: bool = True) -> Iterator[Executor]:
    """Threads that each compute one crop or one exam at a time.

    exact  with operations that give the same bits every time; else with all that there are, as a GPU needs
    """
    within_one_operation = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(exact)
    begun = Barrier(threads)

    def begin(_: int) -> None:
        torch.get_num_threads()  # each thread takes the number of now, once and for all
        begun.wait()

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(begin, range(threads)))
            try:
                yield pool
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # crops of a step that will not come
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(within_one_operation)


def load(cases: Iterable[Case], config: TrainingConfig) -> tuple[Exam, ...]:
    """Read and prepare all cases, exactly as a hospital's series is prepared; their images become channels, in order.

    Raises TrainingError, naming the case, for one that cannot be learnt from, such as images on different grids.
    """
    data, classifies = config.data, task_of(config) == "classification"
    kept = None if data.cache is None else PreparedCache(data.cache, round(data.cache_gib * 2**30))
    exams = []
    for case in cases:
        if case.reference is None and not classifies:
            raise TrainingError(f"case '{case.name}' has no reference to learn from")
        made = read_prepared(case, config.recipe, len(data.classes), kept)
        image = torch.from_numpy(made.images)
        if classifies:
            exams.append(Exam(case.name, image, *_classes(case, config)))
        else:
            assert made.labels is not None
            labels = torch.from_numpy(np.ascontiguousarray(made.labels))
            exams.append(Exam(case.name, image, labels, regions=read_painting(case, config)))
    if not exams:
        raise TrainingError("there is no case to train on or none to choose by; check the splits in the table")
    return tuple(exams)


def _classes(case: Case, config: TrainingConfig) -> tuple[Tensor, int]:
    """The class of each task, (tasks,), -1 where it is not known; and that of the first."""
    columns = tuple(groups_of(config))
    said = f"column '{columns[0]}'" if len(columns) == 1 else f"any of the columns {', '.join(columns)}"
    if not any(column in case.labels for column in columns):
        raise TrainingError(f"case '{case.name}' has no class in {said}")
    classes = [case.labels.get(column, -1) for column in columns]
    return torch.tensor(classes), classes[0]
