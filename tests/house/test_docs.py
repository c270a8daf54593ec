"""Documents are tested: links lead somewhere, commands exist, and what exists is documented."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"(?:^|[`\n]) *make ([a-z][a-z-]*)")
EVIDENCE = re.compile(r"\[`([^`\]]+)::(\w+)`\]\(([^)\s]+)\)")
RESIDENCY = re.compile(r"(?:^|`)(?:\$ )?residency((?: [a-z][a-z-]*)*)", re.MULTILINE)


@pytest.fixture(scope="module")
def reference(repository: Path):
    """tools/make_reference.py as a module."""
    spec = importlib.util.spec_from_file_location("make_reference", repository / "tools" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def documents(repository: Path) -> dict[Path, str]:
    """Every Markdown page of the project."""
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md"), *(repository / "models").rglob("*.md")]
    return {page: page.read_text(encoding="utf-8") for page in pages}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_link_inside_the_project_leads_somewhere(documents):
    broken = []
    for page, text in documents.items():
        for target in LINK.findall(FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists():
                broken.append(f"{page.name}: {target}")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
                broken.append(f"{page.name}: {target}: no such heading")
    assert not broken


def test_every_make_command_in_the_documents_exists(documents, repository):
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {name for text in documents.values() for name in MAKE.findall(text)}
    assert {"demo", "test"} <= asked <= targets


def test_every_residency_command_in_the_documents_exists(documents, reference):
    """`residency models frob` in a tutorial must be a command; words after a whole command are its arguments."""
    known = dict(reference.commands())
    unknown = []
    for page, text in documents.items():
        for words in RESIDENCY.findall(text):
            name, rest = "residency", words.split()
            while rest and f"{name} {rest[0]}" in known:
                name = f"{name} {rest.pop(0)}"
            if rest and getattr(known[name], "commands", None):
                unknown.append(f"{page.name}: residency{words}")
    assert not unknown


def test_the_reference_is_what_the_code_says(reference, repository):
    assert reference.outdated(repository / "docs" / "reference") == [], "run make docs"


def test_every_command_and_setting_is_documented(reference, repository):
    from residency.settings import Settings

    commands = (repository / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    settings = (repository / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name, _ in reference.commands() if f"## {name}\n" not in commands] == []
    assert [key for key in Settings.model_fields if f"| `{key}` |" not in settings] == []


def test_every_command_and_option_says_what_it_does(reference):
    for name, command in reference.commands():
        assert command.help, name
        silent = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
        assert not silent, f"{name}: {silent}"


def test_decision_records_have_the_house_form(repository):
    """A record without its costs, or without what shows that it holds, is an opinion."""
    records = sorted((repository / "docs" / "decisions").glob("[0-9]*.md"))
    assert [r.name[:4] for r in records] == [f"{n:04d}" for n in range(1, len(records) + 1)]
    index = (repository / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    for record in records:
        assert f"({record.name})" in index, f"README.md does not list {record.name}"
        text = record.read_text(encoding="utf-8")
        for part in ("Status", "Context", "Decision", "Considered", "Costs", "Shown by"):
            assert f"**{part}**" in text, f"{record.name}: {part}"


def test_what_documents_name_in_the_code_exists(documents, repository):
    """`test_retry_stores_nothing_new` as evidence is none if no such test is there; the same for files and modules."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (repository / "tests").rglob("*.py"))
    suites = "\n".join(
        path.read_text(encoding="utf-8") for path in (repository / "src" / "residency" / "testing").rglob("*.py")
    )
    missing = []
    for page, text in documents.items():
        for name in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
            if re.search(r"[A-Z]{4}", name):
                continue  # a placeholder such as NAME.py
            if re.fullmatch(r"test_\w+", name):
                known = f"def {name}(" in tests + suites
            elif re.fullmatch(r"\w+Contract", name):
                known = f"class {name}" in suites
            elif re.fullmatch(r"(tests|src|docs|tools|bench|models)/[\w./-]+", name):
                known = (repository / name).exists()
            elif re.fullmatch(r"residency(\.\w+)+", name):
                known = is_in_the_package(name)
            else:
                continue
            if not known:
                missing.append(f"{page.name}: {name}")
    assert not missing


def test_a_test_that_a_document_links_to_is_in_that_file(documents):
    """[`test_x.py::test_y`](../tests/test_x.py): a page can be believed only as far as its evidence exists."""
    missing, found = [], 0
    for page, text in documents.items():
        for file, name, target in EVIDENCE.findall(text):
            there = page.parent / target
            defined = re.compile(rf"^ *(def|class) {name}\b", re.MULTILINE)
            if there.name != file or not defined.search(there.read_text(encoding="utf-8")):
                missing.append(f"{page.name}: {file}::{name}")
            found += 1
    assert not missing
    assert found


def test_every_feature_that_is_compared_has_its_evidence(documents, repository):
    """Each line that says what Residency does beside its peers ends in a link to a test or a page."""
    text = documents[repository / "docs" / "explanation" / "compared.md"]
    tables = re.findall(r"^\|.*\| shown by \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    assert len(lines) > 30
    assert [line for line in lines if not LINK.search(line.rsplit("|", 2)[1])] == []


def test_the_figures_of_what_is_compared_are_those_of_the_result(documents, repository):
    text = documents[repository / "docs" / "explanation" / "compared.md"]
    rows = json.loads((repository / "docs" / "results" / "compared.json").read_text(encoding="utf-8"))["rows"]
    for row in rows:
        figures = [row[key] for key in ("packages", "MB", "PyTorch MB", "others MB")]
        told = " | ".join([row["name"], *(f"{figure:,}" for figure in figures)])
        waits = f"{row['help CPU s']:.2f} | {row['help s']:.1f}" if row["help s"] else "failed | failed"
        assert f"| {told} | {waits} |" in text


def is_in_the_package(name: str) -> bool:
    """Whether a dotted name is a module or a public name of one, without importing more than its parents."""
    module, _, attribute = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    return hasattr(importlib.import_module(module), attribute)


def test_the_readme_says_what_this_is_not(repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert "not a medical device" in readme
    assert "3.12" in readme
    assert "untested" in readme
