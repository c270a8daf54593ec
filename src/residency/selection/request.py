"""Which candidates a person asked for by name."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from residency.errors import UsageError
from residency.selection.candidates import Candidate, CandidateTable
from residency.selection.ranking import Policy

_SHORTEST_DIGEST = 8
"""Digits; fewer are more likely a name."""


def requested(table: CandidateTable, policy: Policy) -> npt.NDArray[np.bool_]:
    """(candidates,): True where the policy's `model` is the family, name or beginning of the digest; all where None.

    Raises UsageError, with the nearest known family, where it is none of them.
    """
    if policy.model is None:
        return np.ones(len(table), dtype=bool)
    wanted = policy.model
    found = np.array([_is_meant(candidate, wanted) for candidate in table.candidates], dtype=bool)
    if not found.any():
        known = sorted({n for c in table.candidates for n in (c.card.identity.family, c.card.identity.name)})
        near = get_close_matches(wanted, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "residency models list shows what there is"
        raise UsageError(f"no model of the archive has the family, name or digest '{wanted[:80]}'; {hint}")
    return found


def _is_meant(candidate: Candidate, wanted: str) -> bool:
    identity = candidate.card.identity
    digits = wanted.removeprefix("sha256:")
    beginning = len(digits) >= _SHORTEST_DIGEST and candidate.digest.removeprefix("sha256:").startswith(digits)
    return beginning or wanted in (identity.family, identity.name)
