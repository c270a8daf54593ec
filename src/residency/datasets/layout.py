"""What is told of a data set before it is read: what a training file must say of its folder, and how that is known."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = "cases.csv"
ENDINGS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg")
IMAGE_FOLDERS = ("images", "image", "imagesTr", "img", "imgs", "scans", "t1")
REFERENCE_FOLDERS = ("labels", "label", "labelsTr", "masks", "mask", "segmentations", "segmentation", "seg", "gt")


@dataclass(frozen=True)
class Hints:
    """What a person says of the folder, in place of what would be guessed.

    images         patterns below the folder, by the name of the image, in which {COLUMN} stands for what a column of
                   the table says; an image that is alone is called `image`
    reference      likewise
    person, split  columns of the table
    target         column of the class, of a classification
    classes        names of the label values 0, 1, ..., or of the classes in order
    modality       of all images
    """

    images: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    person: str | None = None
    split: str | None = None
    target: str | None = None
    classes: tuple[str, ...] = ()
    modality: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a training file must say of a folder.

    data        the values of `data`, without `folder`, `classes` and what describes the set to people; `table` is left
                out where one has to be written
    table       rows of the table to write, where the folder has none that says enough
    target      column of the class, of a classification
    classes     names, where the folder says them
    modalities  of each image, by its name
    reasons     why each key of `data` is as it is
    notes       what a person should know
    """

    folder: Path
    kind: str
    data: Mapping[str, Any]
    table: tuple[Mapping[str, str], ...] = ()
    target: str | None = None
    classes: tuple[str, ...] = ()
    modalities: Mapping[str, str | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def table_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as CSV."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def plain_names(names: Sequence[str]) -> list[str]:
    """Names that cases may have, each once."""
    made: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("_-")[:57] or "case"
        number, tried = 1, plain
        while tried in made:
            number += 1
            tried = f"{plain}-{number}"
        made[tried] = None
    return list(made)


def left_out(names: Sequence[str], of: int, why: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} of {of} cases {why} and are left out: {', '.join(names[:3])}{more}"


def modality_named(text: str) -> str | None:
    """The DICOM modality that a channel's or a column's name says, or None. The rule of nnU-Net: "CT" is CT."""
    said = text.strip().lower()
    if said in ("ct", "cbct", "computed tomography"):
        return "CT"
    if said in ("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "dwi", "adc", "swi"):
        return "MR"
    if said in ("cr", "dx", "pt", "us", "mg", "nm"):
        return said.upper()
    return {"pet": "PT", "x-ray": "DX", "xray": "DX", "cxr": "DX", "ultrasound": "US"}.get(said)
