"""Settings of 3D nets that differ by stage and by axis, in the flat form that a training file can hold."""

from __future__ import annotations

from collections.abc import Sequence

Triple = tuple[int, int, int]
"""Along slices, rows and columns."""


def triples(what: str, values: Sequence[int], stages: int) -> list[Triple]:
    """One triple a stage, of one number a stage or of three. Raises ValueError, naming `what`, for any other count."""
    if len(values) not in {stages, 3 * stages} or min(values) < 1:
        raise ValueError(f"{what} are one number of at least 1 for each of the {stages} stages, or three, not {values}")
    if len(values) == stages:
        return [(value, value, value) for value in values]
    return list(zip(values[0::3], values[1::3], values[2::3], strict=True))
