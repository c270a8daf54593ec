"""Make the tables of `residency.codes` from the dictionaries that pydicom and highdicom carry, and tools/anatomy.txt.

    python tools/make_code_tables.py [FOLDER]

Without a folder the committed tables in src/residency/codes/tables are rewritten. Every code of anatomy.txt is looked
up in the dictionaries and refused if its meaning is another. Same inputs, same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

HERE = Path(__file__).resolve().parent
TABLES = HERE.parent / "src" / "residency" / "codes" / "tables"

CONTEXT_GROUPS = (4, 29, 4030, 4031, 7150, 7151, 7152, 7153, 7154, 7155, 7156, 7159, 7166, 7192)
"""Anatomic regions, acquisition modalities, imaged anatomy (CT/MR/PET and common), segment categories and types."""

SCHEMES = ("DCM", "NCIt", "RADLEX", "SCT")
LONGEST_MEANING = 64
"""Code Meaning is LO (PS3.5 section 6.2): longer dictionary entries cannot be written and are left out."""

_FIRST = -1_000_000
"""Rank of the wording of Annex L; other wordings rank by the number of context groups that use them."""

_TAG = re.compile(r" \((body structure|finding|disorder|procedure|substance|observable entity|qualifier value)\)$")
_LINE = re.compile(r"^(?P<code>\d+) (?P<meaning>.+)$")

Rows = list[tuple[str, ...]]


def main(folder: Path) -> None:
    """Write every table into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    body_parts = _body_part_map()
    offered = _offered()
    anatomy = Anatomy(HERE / "anatomy.txt", offered)
    meanings = _meanings(offered, anatomy.meanings)
    tables: dict[str, Rows] = {
        "concepts": sorted((scheme, value, meaning) for (scheme, value), meaning in meanings.items()),
        "srt": sorted((old, new) for old, new in mapping["SRT"].items()),
        "groups": sorted((str(cid), scheme, value) for cid in CONTEXT_GROUPS for scheme, value in _group(cid)),
        "body_parts": sorted(
            (term, code, meanings["SCT", code], "paired" if paired else "-", anatomy.use_of(term))
            for term, (code, paired) in body_parts.items()
        ),
        "parts": sorted(anatomy.parts),
        "kinds": sorted(anatomy.kinds),
        "together": sorted(anatomy.together),
        "renamed": sorted(anatomy.renamed),
    }
    unknown = (anatomy.unwritten | set(anatomy.carriers)) - set(body_parts)
    if unknown:
        sys.exit(f"anatomy.txt: not Body Part Examined terms: {', '.join(sorted(unknown))}")
    for name, rows in tables.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8", newline="\n")


def _body_part_map() -> dict[str, tuple[str, bool]]:
    """Body Part Examined term -> (SCT code, whether the region is paired and demands a laterality): PS3.16 Annex L."""
    found = {}
    for term, (scheme, value, _, paired) in _annex().items():
        if scheme != "SCT":
            sys.exit(f"body part {term} has scheme {scheme}, expected SCT")
        found[term] = (value, paired)
    return found


def _annex() -> dict[str, tuple[str, str, str, bool]]:
    text = (files("highdicom") / "_standard" / "anatomic_regions.json").read_text(encoding="utf-8")
    return {term: (entry[0], entry[1], entry[2], entry[3]) for term, entry in json.loads(text).items()}


def _offered() -> dict[tuple[str, str], list[tuple[int, int, str]]]:
    """(scheme, value) -> what the dictionaries say, each after its rank (Annex L, most context groups) and length."""
    offered: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for scheme in SCHEMES:
        for values in concepts[scheme].values():
            for value, (meaning, groups) in values.items():
                plain = _TAG.sub("", meaning)
                offered.setdefault((scheme, value), []).append((1 - len(groups), len(plain), plain))
    for term, (scheme, value, meaning, _) in _annex().items():
        rank = 2 if term.startswith("ENDO") and "-" in meaning else _FIRST
        offered.setdefault((scheme, value), []).append((rank, len(meaning), meaning))
    return offered


def _meanings(
    offered: dict[tuple[str, str], list[tuple[int, int, str]]], kept: dict[str, str]
) -> dict[tuple[str, str], str]:
    """(scheme, value) -> the meaning to write: as anatomy.txt words it, else the best that is offered."""
    best = {key: min(choices)[2] for key, choices in offered.items()}
    best.update({("SCT", value): meaning for value, meaning in kept.items()})
    return {key: meaning for key, meaning in best.items() if len(meaning) <= LONGEST_MEANING and meaning.isascii()}


def _group(cid: int) -> Iterator[tuple[str, str]]:
    for scheme, keywords in cid_concepts[cid].items():
        for keyword in keywords:
            for value, (_, groups) in concepts[scheme][keyword].items():
                if cid in groups:
                    yield scheme, value


class Anatomy:
    """The sections of anatomy.txt as rows of codes; every code checked against the dictionaries."""

    def __init__(self, file: Path, offered: dict[tuple[str, str], list[tuple[int, int, str]]]) -> None:
        self._offered = offered
        self.meanings: dict[str, str] = {}
        self.parts: set[tuple[str, str]] = set()
        self.kinds: set[tuple[str, str]] = set()
        self.together: set[tuple[str, str]] = set()
        self.renamed: set[tuple[str, str]] = set()
        self.unwritten: set[str] = set()
        sections: dict[str, list[str]] = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                lines = sections.setdefault(line.strip("[]"), [])
            elif line.strip() and not line.startswith("#"):
                lines.append(line)
        self._read_parts(sections["part of"])
        for line in sections["is a"]:
            narrow, wide = line.split(" < ")
            self.kinds.add((self._code(narrow), self._code(wide)))
        self._read_together(sections["together"])
        for line in sections["renamed"]:
            old, new = line.split(" = ")
            self.renamed.add((old.strip(), self._code(new)))
        self.unwritten = {line.strip() for line in sections["read, not written"]}
        self.carriers = [line.strip() for line in sections["written for their parts"]]

    def use_of(self, term: str) -> str:
        """ "read": never written; "written"; or, for a term that stands in for parts, its place in that list."""
        if term in self.carriers:
            return str(self.carriers.index(term))
        return "read" if term in self.unwritten else "written"

    def _read_parts(self, lines: Iterable[str]) -> None:
        above: list[tuple[int, str]] = []
        for line in lines:
            depth = len(line) - len(line.lstrip())
            code = self._code(line)
            while above and above[-1][0] >= depth:
                above.pop()
            if above:
                self.parts.add((code, above[-1][1]))
            above.append((depth, code))

    def _read_together(self, lines: Iterable[str]) -> None:
        named: dict[str, set[str]] = {}
        for line in lines:
            whole, members = line.split(" = ")
            named[self._code(whole)] = {self._code(member) for member in members.split(" + ")}
        for whole, members in named.items():
            self.together.update((whole, member) for member in members)
            self.parts.update((member, whole) for member in members)
            self.parts.update((other, whole) for other, fewer in named.items() if fewer < members)

    def _code(self, text: str) -> str:
        found = _LINE.match(text.strip())
        if not found:
            sys.exit(f"anatomy.txt: '{text}' is not 'code meaning'")
        value, meaning = found["code"], found["meaning"]
        known = [text for _, _, text in self._offered.get(("SCT", value), [])]
        if meaning.casefold() not in (text.casefold() for text in known):
            sys.exit(f"anatomy.txt: {value} is '{meaning}' there, {known} in the dictionaries")
        if self.meanings.setdefault(value, meaning) != meaning:
            sys.exit(f"anatomy.txt: {value} is '{meaning}' in one place and '{self.meanings[value]}' in another")
        return value


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLES)
