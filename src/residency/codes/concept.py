"""A coded concept: the standard's triplet of scheme, value and meaning (DICOM PS3.3 section 8)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Scheme = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Za-z0-9_.-]{0,15}$")]
Value = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
Meaning = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]

_TEXT = re.compile(r"^(?P<scheme>[A-Za-z0-9_.]+):(?P<value>\S+)$")


class Code(BaseModel):
    """Coding scheme designator, code value, code meaning. Two codes are equal if scheme and value are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Scheme
    value: Value
    meaning: Meaning

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and (self.scheme, self.value) == (other.scheme, other.value)

    def __hash__(self) -> int:
        return hash((self.scheme, self.value))

    def __str__(self) -> str:
        return f"{self.meaning} ({self.scheme}:{self.value})"


def split_code_text(text: str) -> tuple[str, str] | None:
    """("SCT", "5366008") from "SCT:5366008" as a person types it; None if it has not that form."""
    found = _TEXT.match(text.strip())
    return (found["scheme"], found["value"]) if found else None
