"""Content conditions asked once for each series, and what was answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from residency.card import ContentCondition
from residency.errors import InputError
from residency.selection.gates import Status, Verdict

Holds = Callable[[str, ContentCondition], bool | None]
"""(series UID, condition) -> whether it holds for the pixels; None where that cannot be told."""


class Contents:
    """Asks `holds` at most once for a series and a condition. Images that cannot be read leave it unknown."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._known: dict[tuple[str, ContentCondition], tuple[Status, str]] = {}

    def status(self, series_uid: str, conditions: Sequence[ContentCondition]) -> Status:
        """The worst result of all conditions."""
        return max((self._ask(series_uid, condition)[0] for condition in conditions), default=Status.PASS)

    def verdicts(self, series_uid: str, conditions: Sequence[ContentCondition]) -> tuple[Verdict, ...]:
        """Every condition with what was measured."""
        return tuple(self._verdict(series_uid, condition) for condition in conditions)

    def _verdict(self, series_uid: str, condition: ContentCondition) -> Verdict:
        status, found = self._ask(series_uid, condition)
        wanted = "yes" if condition.value else "no"
        return Verdict("content", status, condition.name.replace("_", " "), found, wanted, "measured on the pixels")

    def _ask(self, series_uid: str, condition: ContentCondition) -> tuple[Status, str]:
        key = (series_uid, condition)
        if key not in self._known:
            self._known[key] = self._measure(series_uid, condition)
        return self._known[key]

    def _measure(self, series_uid: str, condition: ContentCondition) -> tuple[Status, str]:
        try:
            holds = self._holds(series_uid, condition)
        except InputError as error:
            return Status.UNKNOWN, f"cannot be measured ({error})"
        if holds is None:
            return Status.UNKNOWN, "cannot be told from the pixels"
        return (Status.PASS if holds else Status.FAIL), "yes" if condition.value == holds else "no"
