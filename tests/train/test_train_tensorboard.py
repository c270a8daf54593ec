"""Event files for TensorBoard, read back record by record."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from residency.train.book import EVENTS
from residency.train.config import read_config
from residency.train.log import read_log
from residency.train.run import run_training

Written = Callable[[dict[str, Any]], Path]


def _events(folder: Path) -> list[Event]:
    """A record is its length (8 bytes), a checksum (4), the event, a checksum (4): TensorFlow's TFRecord."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_tensorboard_is_told_what_the_log_is(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["schedule"] |= {"steps": 5, "validate_every": 5}
    run_training(read_config(written(small_values)), tmp_path / "silent", lambda _: None, lambda: False)
    assert not (tmp_path / "silent" / EVENTS).exists()
    config = read_config(written(small_values | {"logs": "tensorboard"}))
    steps: list[int] = []
    for stop in (3, 5):
        run_training(config, tmp_path, lambda done: steps.append(done.step), lambda stop=stop: steps[-1] == stop)
    told: dict[tuple[str, int], float] = {}
    for event in _events(tmp_path / EVENTS):
        for value in event.summary.value:
            told[value.tag, event.step] = value.simple_value
    log = read_log(tmp_path)
    for line in log:
        for tag, key in (("loss", "loss"), ("rate", "rate"), ("crops_a_second", "crops_second")):
            assert told[tag, line["step"]] == pytest.approx(line[key], rel=1e-3)
        assert ("waiting_share", line["step"]) in told
    assert told["figure", 5] == pytest.approx(log[-1]["figure"])
