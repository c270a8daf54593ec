"""The loop on a problem that it solves in seconds: it learns, repeats itself bit by bit, and survives being killed."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.errors import TrainingError
from residency.train.config import TrainingConfig, read_config
from residency.train.log import read_log
from residency.train.loop import train
from residency.train.progress import Progress
from residency.train.run import divided, run_training
from residency.train.state import Outcome, read_tensors, write_atomically

Written = Callable[[dict[str, Any]], Path]


def _never() -> bool:
    return False


def _ignore(_: Progress) -> None:
    pass


@pytest.fixture
def config(small_values: dict[str, Any], written: Written) -> TrainingConfig:
    return read_config(written(small_values))


def _same(one: Path, other: Path) -> bool:
    """True if two runs ended with the same bits: weights, averages, optimiser, history and the best weights."""
    left, right = (read_tensors(run / "checkpoint.pt") for run in (one, other))
    for run in (left, right):
        del run["seconds"]  # the only thing that the clock decides
    best = [read_tensors(run / "best.pt") for run in (one, other)]
    return _equal(left, right) and _equal(best[0], best[1])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def test_the_loss_falls_and_persons_never_seen_are_segmented(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    values = copy.deepcopy(small_values)
    values["schedule"] |= {"steps": 80, "rate": 0.02}
    losses: list[float] = []
    outcome = run_training(read_config(written(values)), tmp_path, lambda done: losses.append(done.loss), _never)
    assert outcome.finished
    assert len(losses) == 80
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert outcome.best == max(figure for _, _, figure in outcome.history) > 0.75
    assert outcome.best_at in [step for step, _, _ in outcome.history]


def test_a_run_repeats_bit_by_bit_on_any_number_of_threads(config: TrainingConfig, tmp_path: Path) -> None:
    for threads in (1, 2):
        run_training(config.model_copy(update={"threads": threads}), tmp_path / str(threads), _ignore, _never)
    assert _same(tmp_path / "1", tmp_path / "2")


def test_another_seed_gives_another_net(config: TrainingConfig, tmp_path: Path) -> None:
    for seed in (1, 2):
        run_training(config.model_copy(update={"seed": seed}), tmp_path / str(seed), _ignore, _never)
    assert not _same(tmp_path / "1", tmp_path / "2")


def test_a_cancelled_run_goes_on_to_the_same_end(config: TrainingConfig, tmp_path: Path) -> None:
    run_training(config, tmp_path / "whole", _ignore, _never)
    steps: list[int] = []
    ended: list[bool] = []
    for stop in (7, 11, 16):
        outcome = run_training(
            config, tmp_path / "parts", lambda done: steps.append(done.step), lambda stop=stop: steps[-1] == stop
        )
        ended.append(outcome.finished)
    assert steps == list(range(1, 17))
    assert ended == [False, False, True]
    assert _same(tmp_path / "whole", tmp_path / "parts")


_PROGRAM = """
import sys
from pathlib import Path
from residency.train.config import read_config
from residency.train.run import run_training
config = read_config(Path(sys.argv[1]))
run_training(config, Path(sys.argv[2]), lambda done: print(done.step, flush=True), lambda: False)
"""


def _steps(file: Path, run: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [sys.executable, "-c", _PROGRAM, str(file), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield int(line), process


def test_a_run_that_was_killed_at_three_moments_ends_with_the_bits_of_one_that_was_not(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    file = written(small_values)
    run_training(read_config(file), tmp_path / "whole", _ignore, _never)
    begun = []
    for moment in (2, 8, 14, None):
        for number, (step, process) in enumerate(_steps(file, tmp_path / "killed")):
            begun += [] if number else [step]
            if step == moment:
                time.sleep(0.003)  # into the next step, or into writing a checkpoint
                process.kill()
                break
        assert process.returncode == (0 if moment is None else -signal.SIGKILL)
    assert begun[0] == 1
    assert begun[1] in (1, 4)  # there is a checkpoint each three steps
    assert begun[2] in (7, 10)
    assert begun[3] in (13, 16)
    assert _same(tmp_path / "whole", tmp_path / "killed")
    assert [line["step"] for line in read_log(tmp_path / "killed")] == list(range(1, 17))


@pytest.mark.slow
def test_a_run_that_is_killed_at_twenty_random_moments_ends_the_same(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 150, "save_every": 2}
    file = written(small_values)
    run_training(read_config(file), tmp_path / "whole", _ignore, _never)
    moments, kills = random.Random(4), 0
    while kills < 20:
        steps = moments.randrange(1, 7)
        for number, (_, process) in enumerate(_steps(file, tmp_path / "killed"), 1):
            if number == steps:
                time.sleep(moments.uniform(0, 0.05))
                process.kill()
                break
        assert process.returncode == -signal.SIGKILL  # it was not through before
        kills += 1
    run_training(read_config(file), tmp_path / "killed", _ignore, _never)
    assert _same(tmp_path / "whole", tmp_path / "killed")
    assert [line["step"] for line in read_log(tmp_path / "killed")] == list(range(1, 151))


def test_a_half_written_checkpoint_is_never_read(config: TrainingConfig, tmp_path: Path) -> None:
    steps: list[int] = []
    run_training(config, tmp_path, lambda done: steps.append(done.step), lambda: steps[-1] == 2)
    (tmp_path / "checkpoint.pt.part").write_bytes(b"half")
    assert run_training(config, tmp_path, lambda done: steps.append(done.step), _never).finished
    assert steps == list(range(1, 17))


def test_a_damaged_or_foreign_checkpoint_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    run_training(config, tmp_path, _ignore, lambda: True)
    with pytest.raises(TrainingError, match="another training file"):
        run_training(config.model_copy(update={"seed": 5}), tmp_path, _ignore, _never)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="damaged"):
        run_training(config, tmp_path, _ignore, _never)


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("attacked",))


def test_a_checkpoint_cannot_carry_code(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "net": _Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="damaged"):
        run_training(config, tmp_path, _ignore, _never)
    assert not (tmp_path / "attacked").exists()


def test_a_run_may_be_made_longer_while_its_steps_so_far_stay_the_same(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    longer = copy.deepcopy(small_values)
    longer["schedule"]["steps"] = 20
    short, long = read_config(written(small_values)), read_config(written(longer))

    def _stop_after(step: int) -> Outcome:
        seen: list[int] = []
        run = tmp_path / f"after-{step}"
        return run_training(short, run, lambda done: seen.append(done.step), lambda: seen[-1] == step)

    _stop_after(8)
    run_training(long, tmp_path / "after-8", _ignore, _never)
    run_training(long, tmp_path / "whole", _ignore, _never)
    assert _same(tmp_path / "after-8", tmp_path / "whole")
    _stop_after(12)  # by then the rate of the shorter run has begun to fall
    with pytest.raises(TrainingError, match="another training file"):
        run_training(long, tmp_path / "after-12", _ignore, _never)


def test_training_stops_early_where_nothing_gets_better(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    values = copy.deepcopy(small_values)
    values["schedule"] |= {"steps": 1000, "rate": 1e-12, "patience": 2, "validate_every": 2}
    outcome = run_training(read_config(written(values)), tmp_path, _ignore, _never)
    assert outcome.finished
    assert outcome.step < 30


def test_a_rate_that_breaks_the_net_is_reported(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    values = copy.deepcopy(small_values)
    values["schedule"] |= {"rate": 1e30, "largest_gradient": 1e30}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; lower schedule\.rate"):
        run_training(read_config(written(values)), tmp_path, _ignore, _never)


def test_no_case_of_another_split_is_ever_opened(config: TrainingConfig) -> None:
    learning, judging = divided(config)
    assert {case.split for case in (*learning, *judging)} == {"train"}
    assert {case.person for case in learning} | {case.person for case in judging} == {f"p{k}" for k in range(5)}


def test_a_run_does_not_go_on_with_other_data(config: TrainingConfig, tmp_path: Path) -> None:
    learning, judging = divided(config)
    train(config, learning, judging, tmp_path, _ignore, lambda: True)
    with pytest.raises(TrainingError, match="was made with other data"):
        train(config, learning[1:], judging, tmp_path, _ignore, lambda: True)
    checkpoint = read_tensors(tmp_path / "checkpoint.pt")
    assert checkpoint["step"] == 1
    del checkpoint["data"]  # as checkpoints were before they knew
    write_atomically(checkpoint, tmp_path / "checkpoint.pt")
    assert train(config, learning, judging, tmp_path, _ignore, lambda: True).step == 2


def test_the_first_steps_are_those_that_they_were(config: TrainingConfig, tmp_path: Path) -> None:
    losses: list[float] = []
    seconds: list[float] = []

    def note(done: Progress) -> None:
        losses.append(done.loss)
        seconds.append(done.seconds_left)
        assert done.crops_second > 0

    run_training(config, tmp_path, note, lambda: len(losses) == 4)
    # To six digits: the last bits depend on the kind of processor.
    assert losses == pytest.approx([2.02619064, 1.64714044, 1.62965119, 1.57841522], rel=2e-6)
    assert all(left > 0 for left in seconds)
