"""Whose a case is, where only its name can tell: names that say it, and names that do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_VISIT = r"(?:ses|session|visit|tp|time|scan|run|t|v)[_-]?\d+"
_SIDE = r"[Ll]eft|[Rr]ight|LEFT|RIGHT|[LlRr]"
_BIDS = r"^(sub-[A-Za-z0-9]+)"
_FORMS: tuple[tuple[str, str, bool], ...] = (
    (
        rf"^(.+?)(?:[_-](?:{_VISIT}|{_SIDE}))*$",
        "names end in a side, or in the number of a visit or a scan: what stands before it is a person",
        False,
    ),
    (rf"^(.+?)(?:[_-](?:{_SIDE}))*$", "names end in a side: what stands before it is a person", True),
)
"""(pattern, why, whether one person may have all cases). What looks like the number of a visit may number persons: then
everybody would be one. A side cannot."""


@dataclass(frozen=True)
class Owner:
    """Whose each case is.

    of       person of each name
    why      how that is known, for people
    pattern  regular expression whose first group is the person; None where nothing was found in the names
    """

    of: Mapping[str, str]
    why: str
    pattern: str | None
    warnings: tuple[str, ...] = ()


def guess_owner(names: Sequence[str]) -> Owner:
    """BIDS where all names say so, else the first form that gives some person several cases, else each is a person.

    A wrong guess that joins cases costs a little data for the choice of weights; one that parts them makes results look
    better than they are. So what is not known is told.
    """
    subjects = _persons(names, _BIDS)
    if names and len(subjects) == len(names):
        many = len(set(subjects.values()))
        return Owner(subjects, f"names begin with 'sub-', as BIDS names a subject ({many} persons)", _BIDS)
    for pattern, why, one_may_have_all in _FORMS:
        of = _persons(names, pattern)
        many = len(set(of.values()))
        if len(of) == len(names) and many < len(names) and (many > 1 or one_may_have_all):
            return Owner(of, f"guessed: {why} ({many} persons)", pattern, (f"whose cases are was guessed: {why}",))
    return Owner(
        {name: name for name in names},
        "guessed: nothing says whose the cases are, each is taken for a person of its own",
        None,
        (
            "nothing says whose the cases are: each was taken for a person of its own. If a person has several, "
            "results will look better than they are: give a table with a column 'person'",
        ),
    )


def _persons(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Of the names that have this form."""
    found = {name: re.search(pattern, name) for name in names}
    return {name: match[1] for name, match in found.items() if match is not None}
