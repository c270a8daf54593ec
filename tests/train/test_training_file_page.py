"""The page about training files: every key with its meaning, examples that are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from residency.recipe import Recipe
from residency.train.config import TrainingConfig, read_config
from residency.train.config_keys import ELSEWHERE, keys_of, model_in
from residency.train.part import Part
from residency.train.task import ONLY


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "reference" / "training-file.md").read_text(encoding="utf-8")


def _example(page: str, kind: str, folder: Path) -> TrainingConfig:
    (text,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
    file = folder / f"train.{kind}"
    file.write_text(text, encoding="utf-8")
    return read_config(file)


def test_the_example_is_the_same_in_yaml_and_in_toml(page: str, tmp_path: Path) -> None:
    in_yaml, in_toml = (_example(page, kind, tmp_path) for kind in ("yaml", "toml"))
    assert in_yaml == in_toml
    assert in_yaml.digest() == in_toml.digest()


def test_every_key_is_there_and_says_what_it_means(page: str) -> None:
    silent = [key.place for key in keys_of(TrainingConfig) if not key.meaning]
    assert not silent, "give each a line `key   text` in the docstring of its part"
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert rows == {key.place.rpartition(".")[2] for key in keys_of(TrainingConfig)}


def test_every_part_is_strict_in_the_same_way() -> None:
    """Unknown keys refused, true not taken for 1: a part of another kind would take them."""

    def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
        inner = {model_in(field.annotation) for field in model.model_fields.values()} - {None, Recipe}
        return inner.union(*(parts(one) for one in inner if one is not None)) if inner else set()

    assert [part.__name__ for part in parts(TrainingConfig) if not issubclass(part, Part)] == []


def test_keys_of_one_task_and_of_other_pages_are_keys() -> None:
    places = {key.place for key in keys_of(TrainingConfig)}
    assert set(ELSEWHERE) <= places
    assert all(place in places or any(one.startswith(f"{place}.") for one in places) for place in ONLY)
