"""A plain folder: images in one subfolder, references of the same names in another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from residency.datasets.case import SINGLE
from residency.datasets.layout import (
    ENDINGS,
    IMAGE_FOLDERS,
    REFERENCE_FOLDERS,
    TABLE,
    Hints,
    Layout,
    left_out,
    plain_names,
)
from residency.datasets.owners import guess_owner
from residency.errors import TrainingError

_CHANNEL = re.compile(r"(.+)_(\d{4})")
"""nnU-Net's names of the images of one case."""


def of_plain(folder: Path, hints: Hints) -> Layout:
    """Its table is to be written. Raises TrainingError where there are no pairs."""
    images = _subfolder(folder, IMAGE_FOLDERS)
    references = _subfolder(folder, REFERENCE_FOLDERS)
    if images is None or references is None:
        raise TrainingError(
            f"{folder} holds neither a table {TABLE}, nor dataset.json and imagesTr of nnU-Net, nor the folders "
            "images and labels; make one of them"
        )
    outlined = _by_stem(references)
    names, shown, notes = _cases(_by_stem(images), outlined)
    pairs = {stem: (files, outlined[key]) for stem, files in shown.items() if (key := _partner(stem, outlined))}
    if not pairs:
        raise TrainingError(f"no file in {references} is called as one in {images}")
    alone = sorted(set(shown) - set(pairs))
    unused = sorted(set(outlined.values()) - {reference for _, reference in pairs.values()})
    notes += [left_out(alone, len(shown), "have no reference")] if alone else []
    notes += [f"{len(unused)} references without an image are left out, {unused[0].name} among them"] if unused else []
    notes += ["nothing is left for a test: keep some persons out of the folder, or name a split in a table"]
    stems = sorted(pairs)
    owner = guess_owner(stems)
    columns = dict(zip(names, (SINGLE,) if len(names) == 1 else [f"image_{k}" for k in range(len(names))], strict=True))
    rows = tuple(
        {"name": case, "person": owner.of[stem], "split": "train"}
        | {columns[name]: file.relative_to(folder).as_posix() for name, file in zip(names, pairs[stem][0], strict=True)}
        | {"reference": pairs[stem][1].relative_to(folder).as_posix()}
        for stem, case in zip(stems, plain_names(stems), strict=True)
    )
    reasons = {
        "table": f"written from the names of the files in {images.name} and {references.name}",
        "person_column": owner.why,
    }
    places = {name: f"{{{column}}}" for name, column in columns.items()}
    found: dict[str, Any] = {"image": places[SINGLE]} if len(names) == 1 else {"images": places}
    data = {"kind": "table", **found, "reference": "{reference}"}
    modalities = dict.fromkeys(names, hints.modality)
    return Layout(folder, "folder", data, rows, None, hints.classes, modalities, reasons, (*notes, *owner.warnings))


def _cases(
    shown: Mapping[str, Path], outlined: Mapping[str, Path]
) -> tuple[tuple[str, ...], dict[str, tuple[Path, ...]], list[str]]:
    """(names of the images of each case, their files by case, what a person should know)."""
    numbered = {stem: found for stem in shown if (found := _CHANNEL.fullmatch(stem)) and not _of_name(stem, outlined)}
    channels = sorted({found[2] for found in numbered.values()})
    if len(numbered) < len(shown) or len(channels) < 2:
        return (SINGLE,), {stem: (file,) for stem, file in shown.items()}, []
    cases = sorted({found[1] for found in numbered.values()})
    whole = [case for case in cases if all(f"{case}_{channel}" in shown for channel in channels)]
    part = sorted(set(cases) - set(whole))
    files = {case: tuple(shown[f"{case}_{channel}"] for channel in channels) for case in whole}
    notes = [left_out(part, len(cases), f"lack one of their {len(channels)} images")] if part else []
    return tuple(f"channel-{int(channel)}" for channel in channels), files, notes


def _subfolder(folder: Path, known: Iterable[str]) -> Path | None:
    there = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    return next((there[name.lower()] for name in known if name.lower() in there), None)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((one for one in ENDINGS if path.name.lower().endswith(one)), None)
        if ending is None or path.name.startswith("."):
            continue
        stem = path.name[: -len(ending)]
        if stem in found:
            raise TrainingError(f"{folder} holds two images called '{stem}'; leave one")
        found[stem] = path
    return found


def _partner(stem: str, outlined: Mapping[str, Path]) -> str | None:
    """The name of the reference of an image: its own, or that without what tells one image from another."""
    bare = re.sub(r"_0000$|[_-](?:t1w?|image|img|ct|mr)$", "", stem, flags=re.IGNORECASE)
    return _of_name(stem, outlined) or _of_name(bare, outlined)


def _of_name(stem: str, outlined: Mapping[str, Path]) -> str | None:
    """A reference of this name, or with what many tools put behind."""
    endings = ("", "_seg", "_mask", "_label", "_labels", "-seg", "-mask", "-label", "_segmentation", "_gt")
    return next((name for end in endings if (name := stem + end) in outlined), None)
