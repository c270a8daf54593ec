"""`residency export` and `residency report`: a stored result for other programs, and for people."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from residency.cli.archive import ArchiveOption

if TYPE_CHECKING:
    from residency.cli.stored import StoredResult


_CAPTIONED = frozenset({"mL", "%", "1"})
"""Units of the numbers under a picture: volumes, shares and ratios."""


class Format(StrEnum):
    """What a result can be exported as."""

    NIFTI = "nifti"
    PNG = "png"
    CSV = "csv"
    JSON = "json"
    DICOM = "dicom"


ResultUid = Annotated[
    str, typer.Argument(metavar="RESULT_UID", help="UID of any object of a result, or of its series.")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the source images, where the archive does not hold them.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("report")(report)


def export(
    result_uid: ResultUid,
    to: Annotated[Path, typer.Option("--to", help="Folder to write to.")] = Path("exported"),
    format: Annotated[
        Format,
        typer.Option("--format", help="nifti: segments, maps; png: slices with outlines; csv, json; dicom: as stored."),
    ] = Format.NIFTI,
    archive: ArchiveOption = None,
    images: ImagesOption = None,
) -> None:
    """Write a stored result for other programs: segments and maps as NIfTI, a picture, its numbers, its DICOM files.

    The DICOM files are Segmentation, maps and report as the archive holds them, with the patient's name in them. Only
    you may read what is written (mode 0600).
    """
    from residency.errors import UsageError

    with _opened(result_uid, archive, images) as result:
        files = exported(result, format)
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{to} cannot be made a folder: {error.strerror}") from None
    for name, data in files.items():
        write_private(to / name, data)
        typer.echo(str(to / name))
    for notice in result.headlines:
        typer.echo(notice, err=True)
    if format is Format.NIFTI and result.source is None:
        typer.echo(
            "warning: the source images are not at hand, so the label map has the slices of the segmentation only; "
            "--images FOLDER gives it the grid of the images",
            err=True,
        )


def report(
    result_uid: ResultUid,
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("report.html"),
    archive: ArchiveOption = None,
    images: ImagesOption = None,
) -> None:
    """Write one HTML page that needs nothing else: slices with outlines, volumes, the reasons, the model card.

    It is about a patient: only you may read it (mode 0600). The folder of the file must be there.
    """
    with _opened(result_uid, archive, images) as result:
        data = report_bytes(result)
    write_private(to, data)
    typer.echo(str(to))
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file about a patient: its owner alone may read it, also where it was there before. Raises UsageError."""
    from residency.errors import UsageError

    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fchmod(file.fileno(), 0o600)
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def exported(result: StoredResult, format: Format) -> dict[str, bytes]:
    """Files by name. Names are of our own making and hold nothing that was received.

    Raises UsageError where the result has nothing of the kind.
    """
    from residency.cli.stored import about, measurements_of
    from residency.files.measurements import to_csv, to_json

    if format is Format.CSV:
        return {"measurements.csv": to_csv(measurements_of(result), about(result)).encode()}
    if format is Format.JSON:
        return {"measurements.json": to_json(measurements_of(result), about(result)).encode()}
    if format is Format.DICOM:
        return _objects(result)
    return _as_nifti(result) if format is Format.NIFTI else _picture(result)


def report_bytes(result: StoredResult) -> bytes:
    """The HTML page of a result."""
    from residency.cli.stored import page_of
    from residency.files.html import result_html

    return result_html(page_of(result)).encode()


def _objects(result: StoredResult) -> dict[str, bytes]:
    """The objects, byte for byte; named by role and a hash of the UID."""
    return {
        f"{role}-{hashlib.sha256(one.uid.encode()).hexdigest()[:16]}.dcm": one.data
        for role, one in result.files.items()
    }


def _as_nifti(result: StoredResult) -> dict[str, bytes]:
    """Segments as label maps, every map and every class of probabilities as a file of its own."""
    from residency.errors import UsageError
    from residency.files.nifti import write_nifti

    files = _label_maps(result)
    maps = [(found.array, content.grid) for content in result.maps for found in content.maps]
    files |= {f"map-{n}.nii.gz": write_nifti(array, grid) for n, (array, grid) in enumerate(maps, start=1)}
    likely = [(one.fractions, content.grid) for content in result.probabilities for one in content.segments]
    files |= {
        f"probability-{n}.nii.gz": write_nifti(array, grid)
        for n, (array, grid) in enumerate(likely, start=1)
        if array is not None
    }
    if not files:
        raise UsageError("the result holds no segments and no maps; export it as csv or json")
    return files


def _label_maps(result: StoredResult) -> dict[str, bytes]:
    """One label map whose values are the segment numbers; where segments overlap, one file a segment."""
    import numpy as np

    from residency.files.nifti import write_nifti

    if result.segmentation is None:
        return {}
    segments = [read.segment for read in result.segmentation.segments]
    grid = result.segmentation.grid
    count = np.zeros(grid.shape, np.uint16)
    labels = np.zeros(grid.shape, np.uint16 if max((s.number for s in segments), default=0) > 255 else np.uint8)
    for segment in segments:
        count += segment.mask
        labels[segment.mask] = segment.number
    if count.max(initial=0) <= 1:
        return {"segments.nii.gz": write_nifti(labels, grid)}
    return {f"segment-{s.number}.nii.gz": write_nifti(s.mask, grid) for s in segments}


def _picture(result: StoredResult) -> dict[str, bytes]:
    from residency.cli.stored import NO_PICTURE, drawn_of, figure, measurements_of, shown_measurements
    from residency.errors import UsageError
    from residency.files.picture import contact_sheet

    if result.source is None:
        raise UsageError("there is no picture without the source images: give --images FOLDER")
    drawn = drawn_of(result)
    if drawn is None:
        raise UsageError(NO_PICTURE)
    rows = shown_measurements(measurements_of(result))
    numbers = [f"{row.label}: {figure(row)}" for row in rows if row.unit in _CAPTIONED or row.evaluation]
    return {"picture.png": contact_sheet(drawn.volume, drawn.outlines, [*numbers, *result.headlines])}


@contextmanager
def _opened(uid: str, archive: str | None, images: Path | None) -> Iterator[StoredResult]:
    from residency.assemble import open_archives, open_loose_files
    from residency.cli.stored import read_result
    from residency.settings import read_settings

    with ExitStack() as held:
        places = held.enter_context(closing(open_archives(archive, read_settings().settings)))
        loose = held.enter_context(closing(open_loose_files(images))) if images is not None else None
        yield read_result(uid, places.results, images=loose or places.images, models=places.models)
