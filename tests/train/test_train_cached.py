"""A training that keeps its prepared cases learns from the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from residency.train.config import read_config
from residency.train.loop import load
from residency.train.sources import divided


def test_cases_are_kept_where_the_file_says_and_come_back_the_same(
    small_values: dict[str, Any], written: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    data = small_values["data"]
    plain = read_config(written(small_values))
    kept = read_config(written(small_values | {"data": data | {"cache": "kept"}}))
    judging = divided(plain)[1]
    first, made, again = load(judging, plain), load(judging, kept), load(judging, kept)
    assert len(list((tmp_path / "kept").iterdir())) == len(judging)
    for one, two, three in zip(first, made, again, strict=True):
        assert one.image.equal(two.image)
        assert one.image.equal(three.image)
        assert one.labels.equal(three.labels)
    tight = read_config(written(small_values | {"data": data | {"cache": "tight", "cache_gib": 1e-7}}))
    load(judging, tight)
    assert not list((tmp_path / "tight").iterdir())
