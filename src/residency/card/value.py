"""What all parts of the card are made of: strict frozen values, and text that cannot steer a terminal."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
# Without control characters: a card comes from strangers and is shown on terminals, which those would steer.
_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
_SOME_LINES = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_ONE_LINE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_ONE_LINE)]
Text = Annotated[str, StringConstraints(max_length=5000, pattern=_SOME_LINES)]


class Value(BaseModel):
    """Frozen; unknown fields, infinity and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Range(Value):
    """Closed interval; an end left out is open."""

    least: float | None = None
    most: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least {self.least} is above most {self.most}")
        return self

    def holds(self, value: float) -> bool:
        """True if the value lies inside."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        low = "" if self.least is None else f"{self.least:g}"
        high = "" if self.most is None else f"{self.most:g}"
        return f"{low}..{high}"
