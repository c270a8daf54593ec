"""The training file's `data.query`: which series of an archive are cases; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from residency.train.part import Part

if TYPE_CHECKING:
    from residency.datasets.archived import ArchiveQuery

Text = Annotated[str, Field(min_length=1)]


class QueryPart(Part):
    """Which series of an archive are cases, and which segments of the Segmentations that refer to them are the classes.

    modality     of the images, such as `MR`
    segments     by the name of a class, what stands for it: codes of the segment's type, such as `SCT:5366008`, or
                 segment numbers
    description  part of the images' Series Description
    reference    part of the Segmentations' Series Description
    weighting    of MR
    attributes   values that all images of a series must have, by DICOM keyword
    """

    modality: Text
    segments: Mapping[Text, Annotated[tuple[Text | int, ...], Field(min_length=1)]]
    description: str = ""
    reference: str = ""
    weighting: Literal["T1", "T2", "FLAIR", "PD", "DWI"] | None = None
    attributes: Mapping[Text, str] = Field(default_factory=dict)

    def asked(self) -> ArchiveQuery:
        """As an archive is asked."""
        from residency.datasets.archived import ArchiveQuery

        return ArchiveQuery(
            self.modality, dict(self.segments), self.description, self.reference, self.weighting, dict(self.attributes)
        )
