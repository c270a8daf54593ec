"""The training file's `net`: a net by name, and what it begins with. Checked without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from residency.errors import ConfigError
from residency.nets.known import Known, check_parameters, known_net
from residency.train.part import Digest, Part, as_value_error

_LATER = {"start_into": "net", "start_head": "strict"}
"""Keys that count only where they are used, so that digests stay as they were before they were known."""


class NetPart(Part):
    """A net by name, how it sees volumes, and the weights that it begins with.

    name          one of those that `residency nets` lists
    parameters    its settings, which `residency nets NAME` tells. Channels and classes come from the data
    convert       what makes a 2D net three-dimensional; without it, it sees volumes slice by slice
    start         file of weights to begin with, safetensors or a state dict saved by torch, beside the training file
                  unless absolute; of the 2D net, if it is converted. Names and shapes must fit; a first layer that was
                  made for other channels is adapted
    start_sha256  of that file, filled in where it is left out: what is trained depends on its content, not on its place
    start_into    `encoder`: the file is that of a classifier, and its weights go into the encoder of a U-Net that has
                  one (resnet18-unet and its like); what decodes begins anew
    start_head    `fresh`: the layers that give the scores begin anew, for other classes than those of the file
    """

    name: str
    parameters: Mapping[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    convert: Literal["acs", "soft-acs", "mean-acs", "i3d", "slicewise"] | None = None
    start: Path | None = None
    start_sha256: Digest | None = None
    start_into: Literal["net", "encoder"] = "net"
    start_head: Literal["strict", "fresh"] = "strict"

    @field_validator("name")
    @classmethod
    def _known_net(cls, value: str) -> str:
        with as_value_error():
            known_net(value)
        return value

    @field_validator("parameters")
    @classmethod
    def _known_parameters(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        if "name" not in info.data:
            return value
        given = {"channels", "classes"} & value.keys()
        if given:
            raise ValueError(f"'{min(given)}' is not for the training file to say: it comes from the data")
        with as_value_error():
            check_parameters(info.data["name"], value, known_net(info.data["name"]).settings)
        return value

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> Self:
        if self.start_sha256 is not None and self.start is None:
            raise ValueError("start_sha256 is of the file `start`, which is missing")
        for key, usual in _LATER.items():
            if self.start is None and getattr(self, key) != usual:
                raise ValueError(f"{key} says how the file `start` is taken, which is missing")
        if self.start_into == "encoder" and self.start_head == "fresh":
            raise ValueError("an encoder has no head: leave out start_head")
        if self.start_into == "encoder" and "decoder" not in self.known.settings:
            raise ValueError(f"net '{self.name}' has no encoder of its own; resnet18-unet and its like have")
        if self.convert is not None and self.known.dimensions == 3:
            raise ValueError(f"net '{self.name}' is three-dimensional already: leave out convert")
        return self

    @property
    def known(self) -> Known:
        """What is known of the net without building it."""
        return known_net(self.name)

    def told(self) -> dict[str, Any]:
        """Plain values for reports and digests: what is set, without the place of a file."""
        values = self.model_dump(mode="json", exclude={"start"}, exclude_none=True)
        return {key: value for key, value in values.items() if _LATER.get(key) != value}

    def placed(self, beside: Path) -> NetPart:
        """With the place and the digest of its first weights, which are looked at, not loaded.

        Raises ConfigError where they are not those of `start_sha256`, or are not there while that is left out.
        """
        if self.start is None:
            return self
        file = self.start if self.start.is_absolute() else (beside / self.start).resolve()
        try:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            if self.start_sha256 is None:
                raise ConfigError(
                    f"net.start: {file} cannot be read: {error.strerror}; only a run that has begun can do without "
                    "it, and only with its net.start_sha256"
                ) from None
            found = self.start_sha256  # a run that has begun, and its export, can do without the file
        if self.start_sha256 not in (None, found):
            raise ConfigError(f"net.start_sha256: {file} has sha256 {found}, got '{self.start_sha256}'")
        return self.model_copy(update={"start": file, "start_sha256": found})
