"""Archive: the port through which Residency sees a DICOM archive. Six methods at most, so that any PACS has them.

Every implementation passes `residency.testing.archive.ArchiveContract`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Level(StrEnum):
    """DICOM's query levels (PS3.4 C.6)."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


@dataclass(frozen=True)
class Query:
    """Exact matches; None matches everything. Only attributes that archives index."""

    patient_id: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    sop_class: str | None = None
    modality: str | None = None
    content_label: str | None = None


@dataclass(frozen=True)
class Entry:
    """One row of an answer. Below its level the fields are empty: a STUDY row has no series_uid."""

    patient_id: str
    study_uid: str
    series_uid: str = ""
    sop_uid: str = ""
    sop_class: str = ""
    modality: str = ""
    description: str = ""
    """Study Description or Series Description, for people."""
    content_label: str = ""
    instances: int = 0


@dataclass(frozen=True)
class Instance:
    """One instance as it travels: its SOP Instance UID and its bytes in DICOM's file format (PS3.10)."""

    uid: str
    data: bytes


class Archive(Protocol):
    """What every archive promises.

    - `store` writes each instance whole or not at all, and returns once it is durable. A UID that is present with the
      same data set is left as it is: storing twice is harmless. A UID that is present with another data set raises
      ConflictError and the first stays.
    - What was stored is found by `find` and given back by `instances` with an equal data set (the file meta group may
      differ).
    - `headers` gives data sets without pixel data and without other values beyond 1 MiB; it is cheap.
    - Every row of `find` satisfies the query. Order is unspecified.
    - All failures are ArchiveError.
    """

    @property
    def url(self) -> str:
        """How this archive is addressed, without credentials."""
        ...

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        ...

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances, in any order. An unknown series gives none."""
        ...

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them, in any order. An unknown series gives none."""
        ...

    def store(self, instances: Iterable[Instance]) -> None:
        """Store instances, one after the other."""
        ...

    def close(self) -> None:
        """Give back what the archive holds (files, connections). Closing twice is harmless."""
        ...
