"""The page about metrics says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency import metrics
from residency.metrics import classification, intervals, nsd

TYPES = {"Agreement", "Bin", "Counts", "Interval", "Mask", "BINS"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")


def _table(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("|")]


@pytest.mark.parametrize("module", [metrics, classification])
def test_the_policies_are_those_of_the_code(page: str, module: object) -> None:
    told = _table(str(module.__doc__))
    assert len(told) == 6
    assert "\n".join(told) in page


def test_every_public_function_has_its_row(page: str) -> None:
    rows = {line.split("`")[1] for line in _table(page) if line.startswith("| `")}
    assert rows | {"agreement", "by_class"} == set(metrics.__all__) - TYPES | {"agreement", "by_class"}
    assert "`agreement` gives" in page
    assert "`by_class` takes" in page


def test_numbers_on_the_page_are_those_of_the_code(page: str) -> None:
    assert f"over {metrics.BINS} bins of equal width" in page
    assert f"persons, {intervals.ROUNDS:,} times" in page
    assert f"same classes, {intervals.FIGURE_ROUNDS:,} times" in page


def test_the_page_names_the_source_that_the_code_names(page: str) -> None:
    for source in ("J Med Internet Res 23(7):e26151", "marching"):
        assert source in page
        assert source in str(nsd.__doc__)
