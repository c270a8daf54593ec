"""What a person wrote wrongly, in a command or in a training file, ends with status 2; cases that are wrong with 15."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ResidencyError
from residency.train.config import read_config
from residency.train.crossing import folds_of, strata
from residency.train.sources import division, gathered
from residency.train.validation import in_split

Written = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize(
    "key",
    [
        {"folder": "nowhere"},
        {"table": "nothing.csv"},
        {"person_column": "patient"},
        {"image": "images/{scan}.nii.gz"},
        {"leave_out": ["nobody"]},
        {"split_file": "nothing.json", "fold": 0},
        {"split_file": "folds.json", "fold": 7},
    ],
    ids=" ".join,
)
def test_a_key_that_names_what_is_not_there(
    small_values: dict[str, Any], written: Written, tmp_path: Path, key: dict[str, Any]
) -> None:
    (tmp_path / "folds.json").write_text('[{"train": ["c0"], "val": ["c2"]}]')
    small_values["data"] |= key
    if "fold" in key:
        del small_values["data"]["validation_share"]
    with pytest.raises(ResidencyError) as refused:
        division(read_config(written(small_values)))
    assert refused.value.exit_status == 2


def test_an_option_that_names_what_is_not_there(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    config = read_config(written(small_values))
    cases = gathered(config).cases
    folds_of(config, tmp_path / "folds", 2)
    for ask in (
        lambda: in_split(config, "nothing", cases[:1]),
        lambda: strata(config, cases, "nothing"),
        lambda: folds_of(config, tmp_path / "folds", 3),
    ):
        with pytest.raises(ResidencyError) as refused:
            ask()
        assert refused.value.exit_status == 2


def test_a_case_that_is_wrong(small_values: dict[str, Any], written: Written) -> None:
    small_values["data"]["image"] = "labels/{name}.nii"
    with pytest.raises(ResidencyError, match="case 'c0'") as refused:
        division(read_config(written(small_values)))
    assert refused.value.exit_status == 15
