"""The committed tables, each read when first needed. Made by tools/make_code_tables.py; never edited by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "tables"


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """The rows of one table, as text."""
    text = (_FOLDER / f"{name}.tsv").read_text(encoding="utf-8")
    return tuple(tuple(line.split("\t")) for line in text.splitlines())


@cache
def concepts() -> dict[tuple[str, str], str]:
    """(scheme, value) -> meaning, for what DICOM's dictionaries hold in the schemes SCT, DCM, NCIt and RADLEX."""
    return {(scheme, value): meaning for scheme, value, meaning in rows("concepts")}


@cache
def sct_of_srt() -> dict[str, str]:
    """Legacy SNOMED-RT value -> SNOMED CT value (the equivalence table of DICOM PS3.16)."""
    return {row[0]: row[1] for row in rows("srt")}


@cache
def renamed() -> dict[str, str]:
    """SNOMED CT value that DICOM used before -> the one that it uses now."""
    return {row[0]: row[1] for row in rows("renamed")}


@cache
def group(number: int) -> frozenset[tuple[str, str]]:
    """(scheme, value) of the concepts of a context group (CID) of PS3.16; empty for one that is not carried."""
    return frozenset((scheme, value) for cid, scheme, value in rows("groups") if cid == str(number))
