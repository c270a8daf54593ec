"""What a gate is: it demands something of a series, and says what it found and where.

A gate looks at the labels of one series and at one demand of a card's input. It answers PASS, UNKNOWN (the headers
do not say; never taken for a PASS) or FAIL, naming the attribute, its value, the rule and the source of the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from residency.card import Input, Range
from residency.labels import SeriesLabels


class Status(IntEnum):
    """Result of a gate."""

    PASS = 0
    UNKNOWN = 1
    FAIL = 2


@dataclass(frozen=True)
class Verdict:
    """What one gate found.

    attribute  what it looked at, as the standard names it
    value      what it found there
    rule       what the card demands
    source     where the value was read: the attribute, or the label rule that supplied it
    """

    gate: str
    status: Status
    attribute: str
    value: str
    rule: str
    source: str

    def __str__(self) -> str:
        if self.status is Status.UNKNOWN:
            return f"{self.attribute} {self.value}; needed: {self.rule}"
        read = "" if self.value in self.source else f" [{self.source}]"
        return f"{self.attribute} = {self.value}; needed: {self.rule}{read}"


NOTHING = "nothing"
"""Rule of a verdict where the card demands nothing."""

MISSING = "missing"
"""Value of a verdict where neither a header nor an approved rule says anything."""

Finding = tuple[Status, str]
"""Status and the value found, as text."""


@dataclass(frozen=True)
class Gate:
    """A gate over categories.

    demand  the card's demand, or None where it demands nothing
    looks   what the judgement depends on, so that it is made once for equal series
    judge   (labels, demand) -> status and value found
    wording the demand as text
    """

    name: str
    attribute: str
    demand: Callable[[Input], Hashable | None]
    looks: Callable[[SeriesLabels], Hashable]
    judge: Callable[[SeriesLabels, Any], Finding]
    wording: Callable[[Any], str]
    source: Callable[[SeriesLabels], str | None] = lambda _labels: None

    def status(self, labels: SeriesLabels, demand: Hashable | None) -> Status:
        """The result alone."""
        return Status.PASS if demand is None else self.judge(labels, demand)[0]

    def verdict(self, labels: SeriesLabels, needs: Input) -> Verdict:
        """The result with its reasons."""
        demand = self.demand(needs)
        if demand is None:
            return Verdict(self.name, Status.PASS, self.attribute, "not looked at", NOTHING, "card")
        status, value = self.judge(labels, demand)
        source = self.source(labels) or f"{self.attribute} = {value}"
        return Verdict(self.name, status, self.attribute, value, self.wording(demand), source)


@dataclass(frozen=True)
class RangeGate:
    """A gate over a number that must lie in a range. `measure` gives None where the headers do not say."""

    name: str
    attribute: str
    unit: str
    demand: Callable[[Input], Range | None]
    measure: Callable[[SeriesLabels], float | None]

    def status(self, labels: SeriesLabels, demand: Range | None) -> Status:
        """The result alone."""
        if demand is None:
            return Status.PASS
        value = self.measure(labels)
        if value is None or math.isnan(value):
            return Status.UNKNOWN
        return Status.PASS if demand.holds(value) else Status.FAIL

    def verdict(self, labels: SeriesLabels, needs: Input) -> Verdict:
        """The result with its reasons."""
        demand = self.demand(needs)
        value = self.measure(labels)
        found = MISSING if value is None else f"{value:.4g} {self.unit}".rstrip()
        wanted = NOTHING if demand is None else f"{_interval(demand)} {self.unit}".rstrip()
        return Verdict(
            self.name, self.status(labels, demand), self.attribute, found, wanted, f"{self.attribute} = {found}"
        )


def _interval(demand: Range) -> str:
    if demand.least is None:
        return "any number of" if demand.most is None else f"at most {demand.most:g}"
    return f"at least {demand.least:g}" if demand.most is None else f"{demand.least:g} to {demand.most:g}"
