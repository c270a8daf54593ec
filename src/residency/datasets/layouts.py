"""What kind of data set a folder holds. Nothing in the folder is changed.

Known are: a table of cases beside files (its columns are found by their names), a raw folder of nnU-Net, and a plain
folder with images in one subfolder and references of the same names in another. What cannot be known is guessed, and
each guess is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.datasets.layout import TABLE, Hints, Layout, modality_named
from residency.datasets.nnunet import case_names, described
from residency.datasets.owners import guess_owner
from residency.datasets.plain_layout import of_plain
from residency.datasets.table_layout import of_table
from residency.errors import UsageError


def layout_of(folder: Path, hints: Hints | None = None) -> Layout:
    """Raises TrainingError for a folder of none of the known kinds, telling what they are; UsageError where there is no
    folder, and for hints that are for another kind or do not fit the table.
    """
    hints = hints or Hints()
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder that holds the data set")
    if (folder / TABLE).is_file():
        return of_table(folder, hints)
    of_a_table = {
        "--image": hints.images,
        "--reference": hints.reference,
        "--person": hints.person,
        "--split": hints.split,
        "--target": hints.target,
    }
    for option, said in of_a_table.items():
        if said:
            raise UsageError(f"{option} is for a folder with a table {TABLE}, which {folder} does not hold")
    if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir():
        return _of_nnunet(folder, hints)
    return of_plain(folder, hints)


def _of_nnunet(folder: Path, hints: Hints) -> Layout:
    said = described(folder)
    owner = guess_owner(case_names(folder, said.ending))
    data: dict[str, Any] = {"kind": "nnunet"}
    reasons = {"kind": "dataset.json and imagesTr: a raw folder of nnU-Net"}
    if owner.pattern is not None:
        data["person_pattern"] = owner.pattern
        reasons["person_pattern"] = owner.why
    modalities = {name: hints.modality or modality_named(name) for name in said.channels}
    classes = hints.classes or said.classes
    return Layout(folder, "nnunet", data, (), None, classes, modalities, reasons, owner.warnings)
