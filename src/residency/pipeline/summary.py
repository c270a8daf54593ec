"""The pictures beside a result: its findings on the slices of its source, drawn as pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from residency.card import Input
from residency.dicom.capture import patient_orientation
from residency.dicom.series import SourceSeries
from residency.files.heads import ROUND_STRUCTURES_MM, view_of
from residency.files.picture import display_range
from residency.files.sheet import Summary
from residency.files.summary import summary_pages
from residency.findings import Findings, Picture
from residency.volume import Volume

HOUNSFIELD = "[hnsf'U]"
SOFT_TISSUE = (-160.0, 240.0)
"""Shown black and white of a CT whose card names no window, in HU: the usual abdomen window, centre 40, width 400."""

_MOVES = frozenset({"orient", "crop", "pad", "resample", "resize"})
"""Steps of a recipe that leave the unit of the values alone."""


def summary_of(findings: Findings, volume: Volume, needs: Input, source: SourceSeries) -> tuple[Picture, ...]:
    """The pages of a result; none of a picture that may show a face.

    volume  of the source, on whose grid the findings lie
    needs   the input of the model that the source was read for

    Slices are shown as acquired; of a head that was not acquired in axial slices, axial sections are shown.
    Of a cascade only what lies round the structures is shown.
    """
    named = source.labels.regions.value if source.labels.regions else ()
    view = view_of(volume, (*needs.regions, *named))
    if view is None:
        return ()
    before = findings.before
    if before is not None:
        view = view.close_up([segment.mask for segment in findings.segments], ROUND_STRUCTURES_MM)
        # Its numbers are told; what it outlines is not drawn.
        before = replace(before, grid=view.volume.grid, segments=(), measurements=())
    drawn = replace(
        findings,
        grid=view.volume.grid,
        before=before,
        segments=tuple(replace(one, mask=view.of(one.mask)) for one in findings.segments),
        maps=tuple(replace(one, array=view.of(one.array)) for one in findings.maps),
    )
    limits = display_limits(volume, needs)
    if not view.turned:
        return summary_pages(Summary(drawn, view.volume, limits, patient_orientation(source)))
    summary = Summary(drawn, view.volume, limits, ("L", "P"), section="axial section")
    return tuple(replace(page, slices=()) for page in summary_pages(summary))


def display_limits(volume: Volume, needs: Input) -> tuple[float, float]:
    """Values shown black and white: what the network sees, where its recipe says so in the unit of the image; for
    other CT soft tissue, else from the values themselves.
    """
    for step in needs.recipe.steps:
        if step.name == "window":
            return _window(step.parameters)
        if step.name == "clip" and isinstance(values := step.parameters.get("values"), (tuple, list)):
            return float(values[0]), float(values[1])
        if step.name not in _MOVES:
            break
    return SOFT_TISSUE if volume.unit == HOUNSFIELD else display_range(volume.array)


def _window(parameters: Mapping[str, object]) -> tuple[float, float]:
    centre, width = float(str(parameters["centre"])), float(str(parameters["width"]))
    return centre - width / 2, centre + width / 2
