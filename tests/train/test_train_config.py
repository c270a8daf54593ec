"""The training file: strict, explained in one line, and refused before anything heavy is imported."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ConfigError
from residency.train.config import SchedulePart, read_config

Written = Callable[[dict[str, Any]], Path]


def test_the_shipped_training_file_is_read_with_its_data_beside_the_checkout(repository: Path) -> None:
    config = read_config(repository / "models" / "hippocampus" / "train.yaml")
    assert config.data.folder == (repository.parent / "shared" / "data" / "hippocampus").resolve()
    assert config.data.classes == ("background", "anterior", "posterior")


def _without(values: dict[str, Any], *place: str) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    part = changed
    for key in place[:-1]:
        part = part[key]
    del part[place[-1]]
    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sede": 1}, "unknown key 'sede', did you mean 'seed'"),
        ({"schedule.stepps": 1}, r"unknown key 'schedule\.stepps', did you mean 'steps'"),
        ({"augment.mirror": 1}, r"unknown key 'augment\.mirror', did you mean 'mirror_axis'"),
        ({"data.zzz": 1}, r"unknown key 'data\.zzz'; known here: .*folder"),
        ({"schedule.steps": 0}, r"schedule\.steps: a number of at least 1 is expected, got 0"),
        ({"schedule.rate": float("nan")}, r"schedule\.rate: "),
        ({"loss": "dcie"}, "loss: unknown loss 'dcie', did you mean 'dice'"),
        ({"name": "../up"}, "name: "),
        ({"recipe": {"steps": [{"name": "orientt"}]}}, r"step 1 \('orientt'\) is unknown, did you mean 'orient'"),
        (
            {"recipe": {"steps": [{"name": "pad", "params": {}}]}},
            r"recipe\.steps\.0\.params', did you mean 'parameters'",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(
    small_values: dict[str, Any], written: Written, change: dict[str, Any], said: str
) -> None:
    values = copy.deepcopy(small_values)
    for place, value in change.items():
        part = values
        *way, last = place.split(".")
        for key in way:
            part = part[key]
        part[last] = value
    with pytest.raises(ConfigError, match=said) as raised:
        read_config(written(values))
    assert "\n" not in str(raised.value)


def test_a_missing_key_is_named(small_values: dict[str, Any], written: Written) -> None:
    with pytest.raises(ConfigError, match=r"schedule\.batch is missing"):
        read_config(written(_without(small_values, "schedule", "batch")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("data: {name: a, name: b}\n", "key 'name' is given twice"),
        ("seed: [1\n", "not valid"),
        ("seed: !!python/object/apply:os.getcwd []\n", "not valid"),
        ("- 1\n", "no keys"),
        ("", "no keys"),
    ],
)
def test_yaml_that_is_ambiguous_or_unsafe_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        read_config(file)
    assert str(file) in str(raised.value)


def test_a_missing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="at most"):
        read_config(huge)


def test_the_digest_says_what_the_weights_depend_on(small_values: dict[str, Any], written: Written) -> None:
    first = read_config(written(small_values)).digest()
    elsewhere = copy.deepcopy(small_values)
    elsewhere["data"]["folder"], elsewhere["threads"] = "/elsewhere", 1
    other = small_values | {"seed": 12}
    assert read_config(written(elsewhere)).digest() == first
    assert read_config(written(other)).digest() != first


def test_how_a_run_is_exported_does_not_end_it(small_values: dict[str, Any], written: Written) -> None:
    plain = read_config(written(small_values))
    symmetric = read_config(written(small_values | {"export": {"symmetric_axis": 2}}))
    assert plain.learning_digest() == symmetric.learning_digest()
    assert plain.digest() != symmetric.digest()


def test_the_rate_rises_stays_falls_and_starts_anew() -> None:
    schedule = SchedulePart(steps=100, batch=1, rate=2.0, warmup=3, decay=0.5, restarts=(60,))
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[30] == 2.0 > rates[31] > rates[59] > 0
    assert rates[60:65] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[80] == 2.0 > rates[81] > rates[99] > 0
    alone = SchedulePart(steps=60, batch=1, rate=2.0, warmup=3, decay=0.5)
    assert [alone.rate_at(step) for step in range(60)] == rates[:60]


def test_a_bad_file_is_refused_before_torch_is_imported(small_values: dict[str, Any], written: Written) -> None:
    file = written(small_values | {"sede": 1})
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "residency", "train", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1
    assert "unknown key 'sede', did you mean 'seed'" in lines[0]
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "residency.train.config" in imported
    assert not imported & {"torch", "monai", "openvino"}
