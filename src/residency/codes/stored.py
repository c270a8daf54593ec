"""The committed tables, each read when first needed. Made by tools/make_code_tables.py; never edited by hand."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "tables"


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """The rows of one table, as text."""
    return tuple(tuple(line.split("\t")) for line in _text(name).split("\n")[1:-1])


@lru_cache(maxsize=4096)
def meaning(scheme: str, value: str) -> str | None:
    """What DICOM's dictionaries call a code of the schemes SCT, DCM, NCIt and RADLEX; None for one they do not hold."""
    return _last_of_row("concepts", f"{scheme}\t{value}")


@lru_cache(maxsize=4096)
def sct_of_srt(value: str) -> str | None:
    """The SNOMED CT value for a legacy SNOMED-RT value (the equivalence table of DICOM PS3.16)."""
    return _last_of_row("srt", value)


@cache
def concepts() -> dict[tuple[str, str], str]:
    """All of what `meaning` tells: (scheme, value) -> meaning. For suggestions only; reading it whole takes long."""
    return {(scheme, value): name for scheme, value, name in rows("concepts")}


@cache
def renamed() -> dict[str, str]:
    """SNOMED CT value that DICOM used before -> the one that it uses now."""
    return {row[0]: row[1] for row in rows("renamed")}


@cache
def group(number: int) -> frozenset[tuple[str, str]]:
    """(scheme, value) of the concepts of a context group (CID) of PS3.16; empty for one that is not carried."""
    return frozenset((scheme, value) for cid, scheme, value in rows("groups") if cid == str(number))


@cache
def _text(name: str) -> str:
    return "\n" + (_FOLDER / f"{name}.tsv").read_text(encoding="utf-8")


def _last_of_row(name: str, key: str) -> str | None:
    """The last cell of the row that begins with the key. Searching the text is ten times faster than splitting it."""
    text = _text(name)
    start = text.find(f"\n{key}\t")
    if start < 0:
        return None
    start += len(key) + 2
    return text[start : text.index("\n", start)]
