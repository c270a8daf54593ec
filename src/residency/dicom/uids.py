"""UIDs as hashes of what determined the content (2.25 form, DICOM PS3.5 B.2), never drawn at random."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

_NAMESPACE = uuid.UUID("6f0c2b0e-6d0f-5d5c-9f0b-4b8a3a1d2e77")

WRITER_VERSION = "2"
"""Raised whenever the same findings would be written as other bytes."""


def derived_uid(domain: str, *parts: str) -> str:
    """A UID that depends on `domain` and `parts` alone: 2.25 and the decimal of a UUIDv5; at most 44 characters.

    Parts are joined by a unit separator, which may not occur in them, so that ("ab", "c") and ("a", "bc") differ.
    """
    if any("\x1f" in part for part in (domain, *parts)):
        raise ValueError("a part of a derived UID holds the separator U+001F")
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0x1F).join((domain, *parts))).int}"


@dataclass(frozen=True)
class ResultIdentity:
    """Everything that determines a result, and so its UIDs. The clock is not in it.

    source_uids  SOP Instance UIDs of the series read, in any order
    approval     how far the site trusted the model when it ran: the words that the result shows
    choice       digest of the gates and rules by which the model was chosen: the words that the result shows
    revision     0 for what the network found; raised by a person's correction
    """

    source_uids: tuple[str, ...]
    model_digest: str
    precision: str
    engine_build: str
    approval: str
    choice: str = ""
    revision: int = 0
    writer_version: str = WRITER_VERSION

    def uid(self, role: str, *more: str) -> str:
        """UID of one object of the result: role "seg", "sr", "seg-series", "sr-series", "tracking" ..."""
        return derived_uid(
            "result",
            role,
            *more,
            "sources",
            *sorted(self.source_uids),
            "model",
            self.model_digest,
            self.precision,
            self.engine_build,
            self.approval,
            self.choice,
            str(self.revision),
            self.writer_version,
        )


def model_uid(digest: str, role: str, index: int = 0) -> str:
    """UID of one object of a model version: role "series", "manifest", "part", "card", "card-series"."""
    return derived_uid("model", digest, role, str(index))


def family_study_uid(publisher_id: str, family: str) -> str:
    """Study Instance UID of a model family."""
    return derived_uid("model-family", publisher_id, family)
