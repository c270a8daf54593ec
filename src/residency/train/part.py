"""What every part of a training file is, and the kinds of values that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from residency.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A mapping of a training file: frozen, unknown keys refused, numbers that are numbers.

    The docstring of a part tells each of its keys in a line `key   text`; the page about training files, and the error
    about a key that is missing, are made from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _not_yes_for_one(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1, and YAML takes `no` for false: `mirror_axis: no` would mirror along axis 0."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if _holds_a_truth(value) and not _takes_a_truth(annotation):
            raise ValueError(f"true or false is not meant here; {_INSTEAD}")
        return value


_INSTEAD = "YAML reads yes, no, on and off as such: leave the key out, or put quotes round a word"


def _holds_a_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_a_truth, value)))


def _takes_a_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_a_truth, get_args(annotation)))


class SeveralError(ValueError):
    """Several things are wrong with one value; pydantic takes an error of its validator for one."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


@contextmanager
def as_value_error() -> Iterator[None]:
    """A ConfigError becomes what pydantic collects beside the other problems of a file."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from None
