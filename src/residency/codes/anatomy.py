"""How regions of the body relate (is-a, part-of), their Body Part Examined terms, and what of a model a study shows.

Sources: DICOM PS3.16 Annex L and CID 4, 4030, 4031; relations as tools/anatomy.txt lists them. Nothing here has a
default: an unknown term is no region, and an unknown region relates to nothing but itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from residency.codes import stored
from residency.codes.concept import Code
from residency.codes.dictionary import canonical


class Kind(StrEnum):
    """How the region that a study shows stands to the region that a model needs."""

    EXACT = "the same region"
    CONTAINS = "the study's region contains the model's"
    PARTIAL = "the study shows only a part of the model's region"
    DISJOINT = "the regions have nothing in common"
    UNSURE = "the study's code is more general than the model's"


@dataclass(frozen=True)
class Relation:
    """hops: part-of steps from the model's region up to the study's (CONTAINS), or the other way round (PARTIAL)."""

    kind: Kind
    hops: int = 0


def region_of_body_part(term: str) -> Code | None:
    """The region that a Body Part Examined term names (PS3.16 Annex L); None for a term that is not in the standard."""
    found = _terms().get(term.strip().upper())
    return None if found is None else Code(scheme="SCT", value=found.value, meaning=found.meaning)


def body_part_of_region(code: Code) -> str | None:
    """The Body Part Examined term to write for a region or structure: its own, else that of the nearest around it.

    Terms of paired regions are not given, since they demand a laterality that may not be known: a kidney is written as
    ABDOMEN, a hippocampus as BRAIN. None where no term fits.
    """
    value = _value(code)
    if value is None:
        return None
    own = sorted(t.term for t in _terms().values() if t.value == value and not t.paired and t.use != "read")
    if own:
        return own[0]
    around = _wholes(value)
    carriers = [
        (around[t.value], int(t.use), t.term) for t in _terms().values() if t.use.isdigit() and t.value in around
    ]
    return min(carriers)[2] if carriers else None


def is_a(narrow: Code, wide: Code) -> int | None:
    """Number of is-a steps from the narrower concept to the wider one; None if it is not a kind of it, or the same."""
    a, b = _value(narrow), _value(wide)
    return None if a is None or b is None or a == b else _kinds_above(a).get(b)


def part_of(part: Code, whole: Code) -> int | None:
    """Number of part-of steps from the part to the whole, at least 1; None if it is no part of it.

    A kind of a part is a part (the thumb is a finger, a finger is part of the hand); is-a steps are not counted.
    """
    a, b = _value(part), _value(whole)
    return None if a is None or b is None else _wholes(a).get(b)


def relate(study: Code | Iterable[Code], model: Code | Iterable[Code]) -> Relation:
    """How the regions that a study shows, taken together, stand to the regions that a model needs, all of them.

    Combined regions count as what they name: chest, abdomen and pelvis listed one by one are the same as the one code
    for all three.
    """
    shown, needed = _expand(_values(study)), _expand(_values(model))
    if not shown or not needed:
        return Relation(Kind.DISJOINT)
    if shown == needed:
        return Relation(Kind.EXACT)
    covered = [_cover(value, shown) for value in needed]
    if all(hops is not None for hops in covered):
        if len(shown) == 1 and not any(covered):
            return Relation(Kind.EXACT)
        return Relation(Kind.CONTAINS, max(hops or 0 for hops in covered))
    inside = [hops for value in shown for whole, hops in _wholes(value).items() if whole in _with_combined(needed)]
    if inside or any(hops is not None for hops in covered):
        return Relation(Kind.PARTIAL, min(inside, default=1))
    if any(_more_general(value, shown) for value in needed):
        return Relation(Kind.UNSURE)
    return Relation(Kind.DISJOINT)


@dataclass(frozen=True)
class _Term:
    term: str
    value: str
    meaning: str
    paired: bool
    use: str


@cache
def _terms() -> Mapping[str, _Term]:
    return {
        term: _Term(term, value, meaning, paired == "paired", use)
        for term, value, meaning, paired, use in stored.rows("body_parts")
    }


@cache
def _edges(table: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for lower, upper in stored.rows(table):
        found.setdefault(lower, []).append(upper)
    return {lower: tuple(upper) for lower, upper in found.items()}


@cache
def _kinds_above(value: str) -> Mapping[str, int]:
    """Every wider concept -> is-a steps."""
    steps = {value: 0}
    waiting = deque([value])
    while waiting:
        at = waiting.popleft()
        for upper in _edges("kinds").get(at, ()):
            if upper not in steps:
                steps[upper] = steps[at] + 1
                waiting.append(upper)
    del steps[value]
    return steps


@cache
def _wholes(value: str) -> Mapping[str, int]:
    """Everything that this is part of -> the fewest part-of steps; is-a steps cost nothing but need a part-of step."""
    steps: dict[str, int] = {value: 0}
    waiting = deque([value])
    while waiting:
        at = waiting.popleft()
        for table, cost in (("kinds", 0), ("parts", 1)):
            for upper in _edges(table).get(at, ()):
                if steps[at] + cost < steps.get(upper, 1_000_000):
                    steps[upper] = steps[at] + cost
                    (waiting.appendleft if cost == 0 else waiting.append)(upper)
    return {upper: count for upper, count in steps.items() if count}


def _cover(value: str, regions: frozenset[str]) -> int | None:
    """Part-of steps from the region up to all regions as one; 0 if it is, or is a wider kind of, one of them."""
    outside = 1 if len(regions) > 1 else 0
    best: list[int] = []
    for region in _with_combined(regions):
        step = 0 if _members().get(region) == regions else outside
        if region == value or value in _kinds_above(region):
            best.append(step)
        elif region in _wholes(value):
            best.append(_wholes(value)[region] + step)
    return min(best, default=None)


def _more_general(value: str, shown: frozenset[str]) -> bool:
    return any(region in _kinds_above(value) for region in shown)


@cache
def _with_combined(regions: frozenset[str]) -> frozenset[str]:
    return regions | {whole for whole, members in _members().items() if members <= regions}


@cache
def _members() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for whole, member in stored.rows("together"):
        found.setdefault(whole, set()).add(member)
    return {whole: frozenset(members) for whole, members in found.items()}


def _expand(values: frozenset[str]) -> frozenset[str]:
    return frozenset(member for value in values for member in _members().get(value, (value,)))


def _values(codes: Code | Iterable[Code]) -> frozenset[str]:
    return frozenset(_key(code) for code in ((codes,) if isinstance(codes, Code) else codes))


def _key(code: Code) -> str:
    """The SNOMED CT value, or scheme and value of a code of another scheme, which relates only to itself."""
    now = canonical(code)
    return now.value if now.scheme == "SCT" else f"{now.scheme}:{now.value}"


def _value(code: Code) -> str | None:
    now = canonical(code)
    return now.value if now.scheme == "SCT" else None
