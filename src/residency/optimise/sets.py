"""The sets of persons that an optimisation is made with and judged by; nobody is in two of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from residency.datasets import Case, digest, persons
from residency.datasets.case import image_digests
from residency.errors import UsageError


@dataclass(frozen=True)
class Sets:
    """Cases of four kinds.

    calibration  ranges are measured on their images
    gate         it is decided on them whether a faster form may ship
    test         reported on, and decided nothing by
    train        learnt from by the network; None where they are not at hand

    Raises UsageError where a set that is needed is empty, and where a person, or an image under another name, is in
    two.
    """

    calibration: tuple[Case, ...]
    gate: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    train: tuple[Case, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("calibration", "gate"):
            if not getattr(self, name):
                raise UsageError(f"the {name} set has no case")
        why = "what is found on persons who were seen before would flatter"
        for (one, first), (other, second) in combinations(self._named().items(), 2):
            known = set(persons(first))
            both = [case.name for case in second if case.person in known]
            if both:
                raise UsageError(
                    f"{len(both)} cases of the {other} set are of persons in the {one} set, as '{both[0]}': {why}"
                )
        seen: dict[bytes, tuple[str, str]] = {}
        for name, cases in self._named().items():
            for case in cases:
                for image in image_digests(case):
                    before, called = seen.setdefault(image, (name, case.name))
                    if before != name:
                        raise UsageError(
                            f"an image of the {name} set is in the {before} set under another name: '{case.name}' is "
                            f"'{called}' there; {why}"
                        )

    def told(self) -> dict[str, Any]:
        """By set: numbers of persons and cases, and the digest of names, persons and content. For a report."""
        return {
            name: {"persons": len(persons(cases)), "cases": len(cases), "digest": f"sha256:{digest(cases)}"}
            for name, cases in self._named().items()
        }

    def _named(self) -> dict[str, tuple[Case, ...]]:
        every = {"train": self.train or (), "calibration": self.calibration, "gate": self.gate, "test": self.test}
        return {name: cases for name, cases in every.items() if cases}
