"""What is known of a series before its pixels are read, each fact with the attribute or rule that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from residency.codes import Code

T = TypeVar("T")

ATTRIBUTES = (
    "AcquisitionContrast",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "DeviceSerialNumber",
    "EchoTime",
    "ImageType",
    "InversionTime",
    "Laterality",
    "MRAcquisitionType",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "PatientPosition",
    "PhotometricInterpretation",
    "PresentationIntentType",
    "ProtocolName",
    "RepetitionTime",
    "ScanOptions",
    "ScanningSequence",
    "SequenceName",
    "SequenceVariant",
    "SeriesDescription",
    "SeriesNumber",
    "SliceThickness",
    "StationName",
    "StudyDescription",
    "ViewPosition",
)
"""What label rules may look at and explanations may show. Never a patient's name, identifier or date."""


class Side(StrEnum):
    """Side of the patient."""

    LEFT = "L"
    RIGHT = "R"


class Weighting(StrEnum):
    """What an MR series is sensitive to."""

    T1 = "T1"
    T2 = "T2"
    FLAIR = "FLAIR"
    PD = "PD"
    DWI = "DWI"


@dataclass(frozen=True)
class Evidence(Generic[T]):
    """A fact and where it was read.

    source  the attribute with its value ("Body Part Examined = BRAIN") or the rule ("rule hippocrop version 1:
            Series Description = HippoCrop")
    """

    value: T
    source: str


@dataclass(frozen=True)
class SeriesLabels:
    """The labels of one series, from headers and approved rules only. None means: the headers do not say (UNKNOWN).

    rows, columns  pixels; slices counts images at distinct positions
    spacing_mm     (slice, row, column); the slice distance is computed from positions; None where positions are absent
    orientation    direction of the axes (slice, row, column) as letters, such as "SPL"
    regions        coded body regions, in the current coding (legacy codes translated)
    image_type     values of Image Type, upper case
    attributes     header values for label rules and explanations, by DICOM keyword (never a patient's name or ID)
    problem        why the series as a whole cannot be taken for input (localiser mixed in, missing slice ...), or None
    own_result     True for results of ours, derived from another series of this archive by a network
    """

    study_uid: str
    series_uid: str
    sop_classes: tuple[str, ...]
    modality: str
    frame_of_reference: str | None
    rows: int | None
    columns: int | None
    slices: int
    spacing_mm: tuple[float, float, float] | None
    orientation: str | None
    image_type: tuple[str, ...] = ()
    photometric: str | None = None
    regions: Evidence[tuple[Code, ...]] | None = None
    side: Evidence[Side] | None = None
    weighting: Evidence[Weighting] | None = None
    contrast: Evidence[bool] | None = None
    reasons: Evidence[tuple[Code, ...]] | None = None
    """Coded reasons for the examination (Reason for Requested Procedure Code Sequence): the disease looked for."""
    patient_age_years: float | None = None
    patient_sex: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    own_result: bool = False

    @property
    def name(self) -> str:
        """What a person calls the series: its description, else its UID."""
        return self.attributes.get("SeriesDescription") or self.series_uid
