"""The page about losses says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from residency.train import loss_part
from residency.train.loss_part import LOSSES, OF_CASES, LossPart


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "reference" / "losses.md").read_text(encoding="utf-8")


def test_every_loss_has_its_parameters_and_defaults(page: str) -> None:
    rows = {line.split("`")[1]: line.split(" | ") for line in page.splitlines() if line.startswith("| `")}
    assert list(rows) == list(LOSSES)
    for name, kind in LOSSES.items():
        defaults = {key: field.default for key, field in kind.model_fields.items()}
        told = ", ".join(f"`{key}` {'false' if value is False else value}" for key, value in defaults.items())
        assert rows[name][2] == (told or "none")
        assert rows[name][3].startswith("both") == (name in OF_CASES)


def test_every_example_is_read_and_is_in_the_code_as_well(page: str) -> None:
    examples = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    assert len(examples) == 4
    in_code = " ".join(str(loss_part.__doc__).split())
    for example in examples:
        LossPart.model_validate(yaml.safe_load(example)["loss"]).check(3)
        assert " ".join(example.split()) in in_code
