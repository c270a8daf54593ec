"""Starting the processes of a team, or joining one that torchrun has started.

The first process starts the others with the command that it was started with itself, and ends them when it ends. They
meet in a file that only their owner can read. What torchrun starts (variables RANK and WORLD_SIZE) meets as torchrun
says, on one machine or several.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from residency.errors import ConfigError, TrainingError
from residency.train.team import ALONE, Team

_FOLDER, _STORE = "RESIDENCY_TEAM", "store"
"""The variable with the folder where processes meet, and a file in it."""

_LONGEST_SILENCE = timedelta(hours=1)
"""After which another process is taken for gone: preparing the cases of a large data set takes long."""

_SECONDS_TO_END = 10.0
_SECONDS_BETWEEN_LOOKS = 0.1
_LAST_WORDS = 2000


@contextmanager
def team_of(processes: int, command: Sequence[str]) -> Iterator[Team]:
    """This process among `processes` ones that train together; alone where it is one.

    command  that starts the others: what `python -m residency` is followed by

    Raises TrainingError, with the last words of the one that failed, where another process ends before its time.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        with _joined() as team:
            yield team
    elif processes == 1:
        yield ALONE
    else:
        with tempfile.TemporaryDirectory(prefix="residency-") as folder, _others(processes, command, Path(folder)):
            yield from _met(folder, Team(0, processes))


@contextmanager
def _joined() -> Iterator[Team]:
    """As one of those that were started."""
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError:
        raise ConfigError(
            "the variables RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers, or not be set"
        ) from None
    folder = os.environ.get(_FOLDER)
    if folder:
        (Path(folder) / f"there-{rank}").touch()
    yield from _met(folder, Team(rank, size, local))


def _met(folder: str | None, team: Team) -> Iterator[Team]:
    """Met in a folder of this machine, or else as the variables of torchrun say."""
    place = "env://" if folder is None else (Path(folder) / _STORE).as_uri()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, place, _LONGEST_SILENCE, team.size, team.rank)
    except (RuntimeError, ValueError) as error:
        why = (str(error).splitlines() or ["no reason is given"])[0]
        raise TrainingError(f"the {team.size} processes do not find each other: {why}") from None
    try:
        yield team
    finally:
        dist.destroy_process_group()


@contextmanager
def _others(processes: int, command: Sequence[str], folder: Path) -> Iterator[None]:
    """The other processes, while the context is open; it opens when all are there."""
    others: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(1, processes):
            told = {"RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank), _FOLDER: str(folder)}
            line = [sys.executable, "-m", "residency", *command]
            with (folder / f"said-{rank}").open("wb") as said:
                others.append(
                    subprocess.Popen(  # noqa: S603 -- ourselves
                        line, env=os.environ | told, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
                    )
                )
        while not all((folder / f"there-{rank}").exists() for rank in range(1, processes)):
            if any(other.poll() is not None for other in others):
                raise TrainingError("another process of this training could not begin")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        yield
    except TrainingError as error:
        _end(others, patiently=True)
        failed = [_failure(rank, other, folder / f"said-{rank}") for rank, other in enumerate(others, 1)]
        raise TrainingError("; ".join([str(error), *(text for text in failed if text)])) from None
    finally:
        _end(others, patiently=sys.exc_info()[0] is None)


def _end(others: Sequence[subprocess.Popen[bytes]], *, patiently: bool) -> None:
    """Those that do not end by themselves, if they are given the time, are ended."""
    for other in others:
        try:
            if patiently:
                other.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass
        if other.poll() is None:
            other.kill()  # it holds nothing that another process would miss
            other.wait()


def _failure(rank: int, other: subprocess.Popen[bytes], words: Path) -> str:
    """How it ended; "" of one that ended well."""
    if other.returncode == 0:
        return ""
    if other.returncode < 0:
        return f"process {rank} was ended by {signal.Signals(-other.returncode).name}"
    said = words.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").strip().splitlines()
    return f"process {rank} said: {said[-1].strip() if said else 'nothing'}"
