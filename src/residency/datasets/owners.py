"""Whose a case is, where only its name can tell: names that say it, and names that do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_VISIT = r"(?:ses|session|visit|tp|time|scan|run|t|v)[_-]?\d+"
_SIDE = r"[Ll]eft|[Rr]ight|LEFT|RIGHT|[LlRr]"
_FORMS: tuple[tuple[str, str], ...] = (
    (r"^(sub-[A-Za-z0-9]+)", "names begin with 'sub-', as BIDS names a subject"),
    (
        rf"^(.+?)(?:[_-](?:{_VISIT}|{_SIDE}))*$",
        "names end in a side, or in the number of a visit or a scan: what stands before it is a person",
    ),
)


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
    """The first form that all names have, and that gives some person several cases; else each is a person of its own.

    A form that makes one person of all says nothing: then what looks like a visit is none.

    A wrong guess that joins cases costs a little data for the choice of weights; one that parts them makes results look
    better than they are. So what is not known is told.
    """
    for pattern, why in _FORMS:
        found = [re.search(pattern, name) for name in names]
        of = {name: match[1] for name, match in zip(names, found, strict=True) if match is not None}
        many = len(set(of.values()))
        if len(of) == len(names) and 1 < many < len(names):
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
