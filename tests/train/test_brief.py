"""What `residency train` says of its settings: in brief before it begins, and whole where it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from residency.train.brief import brief, whole
from residency.train.config import TrainingConfig, read_config

Written = Callable[[dict[str, Any]], Path]


def test_a_line_for_each_key_that_the_file_sets(small_values: dict[str, Any], written: Written) -> None:
    lines = list(brief(read_config(written(small_values | {"device": {"kind": "auto"}, "sampling": {}}))))
    assert [line.split(":")[0] for line in lines] == [
        "seed",
        "threads",
        "data",
        "recipe",
        "net",
        "patch",
        "schedule",
        "augment",
    ]
    assert lines[4] == "net: {name: unet, parameters: {features: [4, 8]}}"
    assert "licence" not in lines[2], "what is for the card alone decides nothing"
    assert all(isinstance(yaml.safe_load(line), dict) for line in lines)


def test_whole_it_is_the_training_file_with_every_default(small_values: dict[str, Any], written: Written) -> None:
    config = read_config(written(small_values))
    told = yaml.safe_load(whole(config))
    assert told["schedule"]["patience"] == 1000
    assert TrainingConfig.model_validate(told) == config


def test_the_command_shows_all_and_trains_nothing(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "residency", "train", str(written(small_values)), "--show-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert yaml.safe_load(done.stdout)["schedule"]["save_every"] == 3
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)["schedule"]["patience"] == 1000
    assert not (tmp_path / "runs").exists()
