"""The command line that all benches share: what is recorded, in which form, and what is kept under which digest."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The contract, as of a repository that is a folder of the test."""
    module = importlib.import_module("contract")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    return module


def _called(contract: Any, monkeypatch: pytest.MonkeyPatch, *words: str, holds: bool = True) -> tuple[Any, list[str]]:
    """Status, and for which reports figures of a card were asked."""
    for_card: list[str] = []
    claim = contract.Claim("so it is", "none", "1", "1", holds)
    report = contract.Report("title", [{"figure": math.nan, "far": [1.0, math.inf]}], [claim])
    monkeypatch.setattr(sys, "argv", ["bench/some.py", *words])
    with pytest.raises(SystemExit) as ended:
        contract.main(
            lambda quick: report,
            "a bench",
            page=lambda body: f"# {body['rows'][0]['figure']}\n",
            recorded=contract.REPOSITORY / "docs" / "some.json",
            for_card=lambda made: for_card.append(made.title),
        )
    return ended.value.code, for_card


def test_a_full_run_is_recorded_with_its_page_and_the_figures_of_the_card(
    contract: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _called(contract, monkeypatch) == (0, [])
    assert not (tmp_path / "docs").exists()
    assert _called(contract, monkeypatch, "--record") == (0, ["title"])
    body = json.loads((tmp_path / "docs" / "some.json").read_text(encoding="utf-8"))
    assert body["rows"] == [{"figure": "nan", "far": [1.0, "inf"]}]  # words that every reader of JSON takes
    assert (body["command"], body["quick"]) == ("python bench/some.py --record", False)
    assert (tmp_path / "docs" / "some.md").read_text(encoding="utf-8") == "# nan\n"


def test_a_claim_that_fails_is_recorded_and_told(
    contract: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _called(contract, monkeypatch, "--record", holds=False) == (1, ["title"])
    assert not json.loads((tmp_path / "docs" / "some.json").read_text(encoding="utf-8"))["claims"][0]["holds"]


def test_the_quick_form_is_not_recorded(
    contract: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _called(contract, monkeypatch, "--quick", "--record") == (2, [])
    assert "leave --quick out" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_the_digest_of_code_is_of_files_their_names_and_versions(contract: Any, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    one, two = tmp_path / "one.py", tmp_path / "room" / "two.py"
    one.write_text("1")
    two.write_text("2")
    whole = contract.code_digest(one, tmp_path / "room", packages=("numpy",))
    assert whole == contract.code_digest(tmp_path / "room", one, packages=("numpy",))
    assert whole != contract.code_digest(one, tmp_path / "room", packages=("scipy",))
    two.write_text("3")
    assert whole != contract.code_digest(one, tmp_path / "room", packages=("numpy",))
    two.rename(tmp_path / "room" / "three.py")
    assert whole != contract.code_digest(one, tmp_path / "room", packages=("numpy",))


def test_results_recorded_before_do_not_mark_a_commit_as_changed(
    contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    assert contract._commit() is None
    results = [tmp_path / "docs" / "results" / "nets.json", tmp_path / "models" / "head" / "evaluation.json"]
    code = tmp_path / "models" / "head" / "card.yaml"
    for file in (*results, code):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    told = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*told, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = contract._commit()
    for result in results:
        result.write_text("2")
    assert contract._commit() == clean
    code.write_text("2")
    assert contract._commit() == f"{clean}-dirty"
