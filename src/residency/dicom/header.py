"""What is kept of one header, each fact with the attribute that says so, and how the images of a series lie together.

Free text is carried along for the site's label rules and for people; nothing here interprets it. What a header does not
say stays None, which is UNKNOWN and never a default.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from residency.codes import Code, canonical, region_of_body_part
from residency.dicom.dataset import codes, items, private_creators, sop_uid, text, texts
from residency.dicom.kinds import PROJECTION_CLASSES, SECONDARY_CAPTURE, check_kind
from residency.dicom.model_object import LIBRARY_PATIENT_ID, PRIVATE_CREATOR
from residency.dicom.multi_frame import frame_headers, is_multi_frame
from residency.dicom.pixels import check_format, check_syntax
from residency.dicom.result import MANUFACTURER
from residency.dicom.several import Traits, check_one_volume, several, traits_of
from residency.dicom.stack import Placement, image_grid, placement_of, stack
from residency.errors import GeometryError, InputError, PixelError
from residency.labels import ATTRIBUTES, Side, Weighting
from residency.volume import Grid

WEIGHTINGS = {
    "T1": Weighting.T1,
    "T2": Weighting.T2,
    "FLUID_ATTENUATED": Weighting.FLAIR,
    "PROTON_DENSITY": Weighting.PD,
    "DIFFUSION": Weighting.DWI,
}
"""Defined terms of Acquisition Contrast (PS3.3 C.8.13.3.1) with a counterpart. Times of a classic MR header (TE, TR)
mean different weightings in different sequences, so they are not interpreted."""

NO_AGENT = frozenset({"NONE", "NO", "N", "NO CONTRAST", "WITHOUT"})
"""What some sites write into Contrast/Bolus Agent to say that there was none: neither yes nor, being free text, no."""

_CONTRADICTIONS = frozenset({("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")})

_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Header:
    """What is kept of the header of one image; frame is its number in a multi-frame instance, from 1."""

    uid: str
    frame: int | None
    study_uid: str
    series_uid: str
    patient: str
    sop_class: str
    modality: str
    placement: Placement | None
    refusal: InputError | None
    image_type: tuple[str, ...]
    photometric: str | None
    regions: tuple[tuple[str, tuple[Code, ...]], ...]
    side: tuple[str, Side] | None
    weighting: Weighting | None
    contrast: str | None
    reasons: tuple[Code, ...]
    age_years: float | None
    sex: str | None
    attributes: tuple[tuple[str, str], ...]
    traits: Traits
    own: bool

    @property
    def projection(self) -> bool:
        """A radiograph or picture: one image, no place in the patient."""
        unplaced = self.placement is not None and self.placement.position is None
        return self.sop_class in PROJECTION_CLASSES or (self.sop_class == SECONDARY_CAPTURE and unplaced)


def images_of(dataset: Dataset) -> tuple[tuple[Dataset, Header], ...]:
    """Every image of an instance, with its header as a single-frame image has it: one, or one a frame."""
    if not is_multi_frame(dataset):
        return ((dataset, _header_of(dataset)),)
    try:
        check_kind(dataset)
        frames = frame_headers(dataset)
    except InputError as error:
        return ((dataset, _header_of(dataset, refusal=error)),)
    return tuple((frame, _header_of(frame, number)) for number, frame in enumerate(frames, start=1))


def _header_of(dataset: Dataset, frame: int | None = None, refusal: InputError | None = None) -> Header:
    """What labels need of one image."""
    placement, refusal = (None, refusal) if refusal is not None else _placement(dataset, frame)
    return Header(
        uid=sop_uid(dataset),
        frame=frame,
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        patient=text(dataset, "PatientID"),
        sop_class=text(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality").upper(),
        placement=placement,
        refusal=refusal,
        image_type=tuple(value.upper() for value in texts(dataset, "ImageType")),
        photometric=text(dataset, "PhotometricInterpretation").upper() or None,
        regions=_regions(dataset),
        side=_side(dataset),
        weighting=WEIGHTINGS.get(text(dataset, "AcquisitionContrast").upper()),
        contrast=_contrast(dataset),
        reasons=_reasons(dataset),
        age_years=_age(dataset),
        sex=text(dataset, "PatientSex").upper() or None,
        attributes=tuple((keyword, found) for keyword in ATTRIBUTES if (found := text(dataset, keyword))),
        traits=traits_of(dataset),
        own=is_own(dataset),
    )


def is_own(dataset: Dataset) -> bool:
    """True for what this program made (results, model objects), told by equipment, library and private block."""
    if text(dataset, "Manufacturer") == MANUFACTURER or text(dataset, "PatientID") == LIBRARY_PATIENT_ID:
        return True
    if any(text(item, "Manufacturer") == MANUFACTURER for item in items(dataset, "ContributingEquipmentSequence")):
        return True
    return PRIVATE_CREATOR in private_creators(dataset)


def _placement(dataset: Dataset, frame: int | None) -> tuple[Placement | None, InputError | None]:
    """Size and place of an image, and why it cannot be read, if it cannot."""
    try:
        check_kind(dataset)
        check_syntax(dataset)
        placement = placement_of(dataset, frame)
        check_format(dataset)
        _check_brightness(dataset)
    except InputError as error:
        return None, error
    return placement, None


def _check_brightness(dataset: Dataset) -> None:
    """Raises PixelError where a radiograph does not say which values are bright (PS3.3 C.8.11.3.1.2)."""
    shape, photometric = text(dataset, "PresentationLUTShape"), text(dataset, "PhotometricInterpretation")
    if text(dataset, "SOPClassUID") in PROJECTION_CLASSES and (photometric, shape) in _CONTRADICTIONS:
        raise PixelError(
            f"instance {sop_uid(dataset)}: Photometric Interpretation {photometric} and Presentation LUT Shape {shape} "
            "contradict each other: which values are bright is unknown. Correct it at the source"
        )


def _regions(dataset: Dataset) -> tuple[tuple[str, tuple[Code, ...]], ...]:
    """(source, codes) of each attribute that names a region, the weightiest first."""
    term = text(dataset, "BodyPartExamined")
    named = region_of_body_part(term) if term else None
    found = (
        ("Anatomic Region Sequence", tuple(map(canonical, codes(dataset, "AnatomicRegionSequence")))),
        (f"Body Part Examined = {term}", () if named is None else (canonical(named),)),
        (
            "Primary Anatomic Structure Sequence",
            tuple(map(canonical, codes(dataset, "PrimaryAnatomicStructureSequence"))),
        ),
    )
    return tuple((source, values) for source, values in found if values)


def _side(dataset: Dataset) -> tuple[str, Side] | None:
    """(source, side); None where nothing is said, both sides are meant, or two attributes contradict each other."""
    names = ("Laterality", "ImageLaterality", "FrameLaterality")
    said = [(name, found) for name in names if (found := text(dataset, name))]
    if len({value for _, value in said}) != 1 or said[0][1] not in ("L", "R"):
        return None
    return f"{said[0][0]} = {said[0][1]}", Side(said[0][1])


def _contrast(dataset: Dataset) -> str | None:
    """The source that names a contrast agent."""
    agent = text(dataset, "ContrastBolusAgent")
    if agent and agent.upper() not in NO_AGENT:
        return "Contrast/Bolus Agent present"
    return "Contrast/Bolus Agent Sequence present" if items(dataset, "ContrastBolusAgentSequence") else None


def _reasons(dataset: Dataset) -> tuple[Code, ...]:
    """Coded reasons for the examination, at the top and within each request."""
    places = (dataset, *items(dataset, "RequestAttributesSequence"))
    found = (code for place in places for code in codes(place, "ReasonForRequestedProcedureCodeSequence"))
    return tuple(dict.fromkeys(map(canonical, found)))


def _age(dataset: Dataset) -> float | None:
    """Patient's Age, else the years between birth and study; None unless exactly told."""
    said = _AGE.fullmatch(text(dataset, "PatientAge"))
    if said:
        return int(said[1]) * _YEARS[said[2]]
    try:
        born = dt.datetime.strptime(text(dataset, "PatientBirthDate"), "%Y%m%d")
        seen = dt.datetime.strptime(text(dataset, "StudyDate"), "%Y%m%d")
    except ValueError:
        return None
    return (seen - born).days / 365.25 if seen >= born else None


@dataclass(frozen=True)
class Arrangement:
    """How the images of a series lie: slice k of the grid is header order[k]. projection: one radiograph.

    notes  what had to be taken as it is
    """

    grid: Grid
    order: tuple[int, ...]
    projection: bool
    notes: tuple[str, ...] = ()


def arrange(headers: Sequence[Header]) -> Arrangement:
    """One regular grid for all images of a series, given in any order.

    Raises InputError (GeometryError, PixelError), naming the instance, where an image cannot be read, or the images
    together are not one volume.
    """
    for header in headers:
        if header.refusal is not None:
            raise header.refusal
    images = [(h.placement, h.traits) for h in headers if h.placement is not None]
    if len({h.modality for h in headers}) > 1 or len({h.projection for h in headers}) > 1:
        raise InputError(f"images of several kinds stand in one series beside instance {headers[0].uid}; split it")
    if headers[0].projection:
        if len(headers) > 1:
            raise InputError(
                f"{len(headers)} separate images stand in one series, {headers[1].uid} beside {headers[0].uid}; "
                "split it"
            )
        raw = ("PresentationIntentType", "FOR PROCESSING") in headers[0].attributes
        notes = ("for processing: values of the detector, not as a radiograph is shown",) if raw else ()
        return Arrangement(image_grid(images[0][0]), (0,), projection=True, notes=notes)
    try:
        found = stack([placement for placement, _ in images])
    except GeometryError as error:
        why = several(images)
        raise (GeometryError(why) if why else error) from None
    check_one_volume(images)
    return Arrangement(found.grid, found.order, projection=False, notes=found.notes)
