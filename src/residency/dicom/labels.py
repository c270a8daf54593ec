"""The labels of a series from its headers: coded evidence only, each fact with the attribute that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from residency.codes import Code
from residency.dicom.dataset import parse
from residency.dicom.header import Header, arrange, images_of
from residency.dicom.stack import Placement
from residency.errors import InputError
from residency.labels import Evidence, SeriesLabels, Side
from residency.volume import Grid, Space

T = TypeVar("T")


def read_labels(headers: Iterable[bytes]) -> SeriesLabels:
    """The labels of one series from its headers, in any order, with or without Pixel Data.

    headers  instances in DICOM's file format (PS3.10)

    What stands against taking the series as one volume is told in `problem`, not raised. Raises InputError only where
    there are no headers, one is not DICOM, or they belong to several series, studies or patients.
    """
    return labels_of([header for data in headers for _, header in images_of(parse(data, pixels=False))])


def labels_of(headers: Sequence[Header]) -> SeriesLabels:
    """The labels of one series; as `read_labels`."""
    if not headers:
        raise InputError("a series without images cannot be read")
    headers = sorted(headers, key=lambda header: (header.uid, header.frame or 0))
    first = headers[0]
    _check_one_series(headers)
    grid, problem = _grid(headers)
    placements = [h.placement for h in headers if h.placement is not None]
    return SeriesLabels(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        sop_classes=tuple(sorted({h.sop_class for h in headers})),
        modality=_shared(headers, lambda h: h.modality) or "",
        frame_of_reference=_shared(placements, lambda p: p.frame_of_reference),
        rows=_shared(placements, lambda p: p.rows),
        columns=_shared(placements, lambda p: p.columns),
        slices=len({p.position for p in placements} - {None}) or len(headers),
        spacing_mm=None if grid is None or grid.space is Space.PIXELS else grid.spacing_mm,
        orientation=grid.orientation if grid is not None and grid.space is Space.PATIENT else None,
        image_type=tuple(dict.fromkeys(value for h in headers for value in h.image_type)),
        photometric=_shared(headers, lambda h: h.photometric),
        regions=_region_evidence(headers),
        side=_side_evidence(headers),
        weighting=_evidence(headers, lambda h: h.weighting, "Acquisition Contrast"),
        contrast=_contrast_evidence(headers),
        reasons=_reason_evidence(headers),
        patient_age_years=_shared(headers, lambda h: h.age_years),
        patient_sex=_shared(headers, lambda h: h.sex),
        attributes=_attributes(headers),
        problem=problem,
        own_result=any(h.own for h in headers),
    )


def _check_one_series(headers: Sequence[Header]) -> None:
    first = headers[0]
    for header in headers[1:]:
        for name, same in (
            ("series", header.series_uid == first.series_uid),
            ("study", header.study_uid == first.study_uid),
            ("patient", header.patient == first.patient),
        ):
            if not same:
                raise InputError(
                    f"instances {first.uid} and {header.uid} do not belong to the same {name}. Send each on its own"
                )
    for one, next_one in pairwise(headers):
        if (one.uid, one.frame) == (next_one.uid, next_one.frame):
            raise InputError(f"instance {one.uid} is given twice; leave one out")


def _grid(headers: Sequence[Header]) -> tuple[Grid | None, str | None]:
    """The grid of the series where it has one, and why it cannot be taken for input, if it cannot."""
    scouts = [h.uid for h in headers if "LOCALIZER" in h.image_type]
    scout = (
        f"instance {scouts[0]} is a localizer (Image Type): a scout for planning, no volume. Choose another series"
        if scouts
        else None
    )
    try:
        return arrange(headers).grid, scout
    except InputError as error:
        return None, scout or str(error)


def _shared(many: Sequence[Header] | Sequence[Placement], of: Callable[..., T | None]) -> T | None:
    """The value on which all agree, else None."""
    values = [of(one) for one in many]
    return values[0] if values and all(value == values[0] for value in values) else None


def _evidence(headers: Sequence[Header], of: Callable[[Header], T | None], name: str) -> Evidence[T] | None:
    found = _shared(headers, of)
    return None if found is None else Evidence(found, f"{name} = {found}")


def _region_evidence(headers: Sequence[Header]) -> Evidence[tuple[Code, ...]] | None:
    """Regions by the weightiest attribute that any image carries; what several images name is taken together."""
    for attribute in ("Anatomic Region Sequence", "Body Part Examined", "Primary Anatomic Structure Sequence"):
        found = [(source, values) for h in headers for source, values in h.regions if source.startswith(attribute)]
        if found:
            regions = tuple(dict.fromkeys(code for _, values in found for code in values))
            source = ", ".join(dict.fromkeys(source for source, _ in found))
            return Evidence(regions, source if "=" in source else f"{source} = {', '.join(map(str, regions))}")
    return None


def _side_evidence(headers: Sequence[Header]) -> Evidence[Side] | None:
    found = _shared(headers, lambda h: h.side)
    return None if found is None else Evidence(found[1], found[0])


def _contrast_evidence(headers: Sequence[Header]) -> Evidence[bool] | None:
    """True where every image names an agent. Its absence proves nothing: many scanners never fill it in."""
    found = _shared(headers, lambda h: h.contrast)
    return None if found is None else Evidence(True, found)


def _reason_evidence(headers: Sequence[Header]) -> Evidence[tuple[Code, ...]] | None:
    reasons = tuple(dict.fromkeys(code for h in headers for code in h.reasons))
    if not reasons:
        return None
    named = ", ".join(map(str, reasons))
    return Evidence(reasons, f"Reason for Requested Procedure Code Sequence = {named}")


def _attributes(headers: Sequence[Header]) -> dict[str, str]:
    """Values on which all images agree; a rule must not act on what only some of them say."""
    shared = set(headers[0].attributes).intersection(*(h.attributes for h in headers[1:]))
    return {keyword: value for keyword, value in headers[0].attributes if (keyword, value) in shared}
