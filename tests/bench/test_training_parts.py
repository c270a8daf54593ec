"""The parts of bench/training.py: its clock, what it reads of a contender's processes, and how labels are judged."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.files.nifti import write_nifti
from residency.train.config import TrainingConfig, read_config
from residency.volume import regular_grid

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def cases() -> Any:
    return importlib.import_module("training_parts.cases")


@pytest.fixture
def clocks() -> Any:
    return importlib.import_module("training_parts.clock")


@pytest.fixture
def processes() -> Any:
    return importlib.import_module("training_parts.processes")


def test_marks_are_kept_at_their_share_of_the_budget_and_keeping_is_not_on_the_clock(clocks: Any) -> None:
    now, kept = [100.0], list[tuple[float, float]]()

    def keep(mark: float) -> None:
        kept.append((mark, now[0]))
        now[0] += 50

    clock = clocks.Clock(10, (1.0, 0.25, 0.5), keep, now=lambda: now[0])
    for _ in range(10):
        now[0] += 1
        clock.after_step(2, 0.25, 0.5)
    assert kept == [(0.25, 103), (0.5, 155), (1.0, 210)]
    assert clock.over
    assert clock.spent == 10
    told = clock.told()
    assert (told["steps"], told["patches_second"], told["waiting_share"]) == (10, 2, 0.25)


def test_a_pause_at_a_mark_is_not_on_the_clock_and_all_else_is(clocks: Any) -> None:
    now = [50.0]
    worked = clocks.Worked(lambda: now[0])
    clock = clocks.Clock(10, (), lambda _: None, now=worked)

    def step(before: float, took: float, after: float) -> None:
        now[0] += before + took
        worked.resumed(took)
        clock.after_step(1, 0, 0.5)
        now[0] += after

    step(before=30, took=1, after=0.25)  # set-up, and then a log to write
    step(before=0, took=1, after=0.25)
    assert clock.spent == 2.5
    worked.paused()
    step(before=60, took=2, after=0)  # read and prepared anew
    assert clock.spent == 4.5
    assert not clock.over


CONTENDER = """
import json, sys
given = json.loads(sys.argv[-1])
if sys.argv[1] == "learn":
    told = {"budget": given["budget_s"]}
    for mark in given["marks"]:
        open(f"{given['folder']}/mark-{mark}.pt", "w").write(f"{given['budget_s']} {mark}")
else:
    told = {"knew": open(given["weights"]).read()}
open(given["answer"], "w").write(json.dumps(told))
"""


def test_a_bench_taken_up_again_keeps_budgets_and_code_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    bench = importlib.import_module("training")
    monkeypatch.setattr(bench, "CHILDREN", tmp_path)
    monkeypatch.setattr(bench, "code_digest", lambda *files: files[0].read_text())
    script = tmp_path / "training_monai.py"
    script.write_text(CONTENDER)

    def learnt(seconds: int) -> Path:
        bout = bench.Bout(tmp_path / "work", None, True)
        return Path(bout.trained(bench.MONAI, seconds, 0, bench.MARKS, {})["folder"])

    short, long = learnt(8), learnt(25)
    assert short == learnt(8) != long
    assert (short / "mark-0.5.pt").read_text() == "8 0.5"
    assert (long / "mark-0.5.pt").read_text() == "25 0.5"
    script.write_text(CONTENDER + "\n")
    assert learnt(8) not in (short, long)


def test_what_comes_before_the_warm_up_is_not_counted(clocks: Any) -> None:
    now = [0.0]
    clock = clocks.Clock(100, (), lambda _: None, warm_s=5, now=lambda: now[0])
    for took in (3, 3, 1, 1, 1):  # two steps of queues, then the true pace
        now[0] += took
        clock.after_step(4, 0, 1)
    assert clock.told()["patches_second"] == 4


def test_a_process_is_measured_with_those_that_it_starts(processes: Any, tmp_path: Path) -> None:
    code = """
import json, subprocess, sys, time
started = subprocess.Popen([sys.executable, "-c", "x = bytearray(80_000_000); import time; time.sleep(3)"])
y = bytearray(40_000_000)
started.wait()
open(sys.argv[1], "w").write(json.dumps({"said": 7}))
"""
    answer = tmp_path / "answer.json"
    found = processes.carried_out([sys.executable, "-c", code, str(answer)], answer, {})
    assert found["said"] == 7
    assert found["processes"] == 2
    assert found["peak_mb"] > 120
    assert found["shared_mb"] > 110


def test_a_process_that_fails_ends_the_bench_and_says_where_it_said_why(processes: Any, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    with pytest.raises(SystemExit, match=r"answer\.log"):
        processes.carried_out([sys.executable, "-c", "raise ValueError('too bad')"], answer, {})
    assert "too bad" in answer.with_suffix(".log").read_text(encoding="utf-8")


@pytest.fixture
def config(shared_data: Path) -> TrainingConfig:
    read = read_config(BENCH / "training_parts" / "ours.yaml")
    return read.model_copy(update={"data": read.data.model_copy(update={"folder": shared_data / "hippocampus"})})


def test_no_person_is_learnt_from_and_judged_on(cases: Any, config: TrainingConfig, tmp_path: Path) -> None:
    found = cases.divide(config, tmp_path / "cases.json", few=False)
    assert found == json.loads((tmp_path / "cases.json").read_text(encoding="utf-8"))
    assert {part: len(found[part]) for part in ("learn", "choose", "judge")} == {
        "learn": 173,
        "choose": 16,
        "judge": 41,
    }
    person = {
        name: (int(name.rsplit("_", 1)[1]) + 1) // 2 for part in ("learn", "choose", "judge") for name in found[part]
    }
    learnt, judged_on = ({person[name] for name in found[part]} for part in ("learn", "judge"))
    assert not learnt & judged_on
    assert not learnt & {person[name] for name in found["choose"]}


def test_labels_are_judged_on_the_grid_of_the_reference_whatever_the_order_of_axes(cases: Any, tmp_path: Path) -> None:
    wanted = np.zeros((6, 8, 10), np.uint8)
    wanted[1:3, 2:5, 3:6], wanted[3:5, 2:5, 3:6] = 1, 2
    half = np.where(wanted == 1, 0, wanted).astype(np.uint8)
    grid = regular_grid(wanted.shape, (1, 1, 1))
    (tmp_path / "labels").mkdir()
    (tmp_path / "found").mkdir()
    for name, labels in (("a", wanted), ("b", half)):
        (tmp_path / "labels" / f"{name}.nii.gz").write_bytes(write_nifti(wanted, grid))
        (tmp_path / "found" / f"{name}.nii.gz").write_bytes(write_nifti(labels, grid))
    given: dict[str, Any] = {
        "judge": ["a", "b"], "labels": str(tmp_path / "labels"), "persons": {"a": "1", "b": "2"}
    }  # fmt: skip
    figures = cases.judged(tmp_path / "found", given)
    assert figures == {"a": 1.0, "b": 0.5}
    assert cases.over_persons(figures, given).mean == 0.75
    assert cases.difference(figures, {"a": 0.5, "b": 0.5}, given).mean == 0.25
