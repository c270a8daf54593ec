"""The card of a plan's network: all that is known filled in, what only a person can say listed, nothing guessed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from residency.errors import CardError, ConfigError
from residency.files.strict_yaml import read_yaml
from residency.models.build import CARD_FILE, GRAPH_FILE, card_data
from residency.train import phantom
from residency.train.config import TrainingConfig
from residency.train.evidence.written import DRAFT
from residency.train.importing.draft import card_text, completed, missing
from residency.train.planning.plan import NOT_KNOWN
from residency.train.task import task_of
from residency.train.written import write_whole

LICENCE = "licence.txt"
_MEASURED = ("training", "statistics", "tiling", "evaluation")
"""Taken from what training and validation wrote, so that a later figure is never hidden by an older one."""
_MODALITIES = ("CT", "MR", "CR", "DX", "RG", "MG", "US", "PT", "NM", "XA")


def draft(config: TrainingConfig, fingerprint: Mapping[str, Any], validation: Path, now: dt.datetime) -> dict[str, Any]:
    """The card as far as it is known, without what `residency models build` takes from measured files.

    validation  folder of a finished validation
    """
    found = read_yaml((validation / DRAFT).read_bytes(), str(validation / DRAFT))
    measured = {key: value for key, value in found.items() if key not in _MEASURED}
    classifies = task_of(config) == "classification"
    identity = {
        "name": config.name.replace("-", " ").capitalize(),
        "family": config.name,
        "version": "1.0.0",
        "sequence": 1,
        "created": now.astimezone(dt.UTC).replace(microsecond=0).isoformat(),
    }
    said: dict[str, Any] = {
        "identity": identity,
        "licences": {}
        if config.data.licence == NOT_KNOWN
        else {"data": [f"{config.data.name}: {config.data.licence}"]},
        "regulatory": {"status": "research only", "notice": "Research use only. Not a medical device."},
        "golden": {
            "input": phantom.INPUT,
            "expected": phantom.PROBABILITIES if classifies else phantom.EXPECTED,
            "source": phantom.SOURCE,
        },
    }
    if others := measured["inputs"][1:]:
        said["golden"]["more"] = {one["name"]: phantom.FURTHER.format(k) for k, one in enumerate(others, 2)}
    known: dict[str, Any] = {key: value for key, value in said.items() if value} | measured
    for one, modality in zip(known["inputs"], fingerprint["modalities"].values(), strict=True):
        if modality in _MODALITIES:
            one["modalities"] = [modality]
        one.pop("recipe", None)  # of training.json
        if len(fingerprint["median_shape"]) == 3 and fingerprint["median_shape"][0] == 1:
            one["dimensions"] = 2
    return known


def write_card(folder: Path, known: Mapping[str, Any], given: Mapping[str, Any], title: str) -> tuple[str, ...]:
    """card.yaml of a package folder, unless a person has it already; what is `given` goes into it either way.

    Gives what is still needed, one line a part; () where the card is whole. Raises CardError or ConfigError for what is
    said and wrong; card.yaml is then as it was.
    """
    file = folder / CARD_FILE
    before = file.read_bytes() if file.exists() else None
    if before is not None and not given:
        return still_needed(folder)
    made = completed(known if before is None else read_yaml(before, str(file)), given)
    write_whole(file, card_text(title, made, ()).encode())
    try:
        needed = still_needed(folder)
    except (CardError, ConfigError):
        if before is None:
            file.unlink()
        else:
            write_whole(file, before)
        raise
    write_whole(file, card_text(title, made, needed).encode())
    return needed


def still_needed(folder: Path) -> tuple[str, ...]:
    """What a person must still say in card.yaml, one line a part. Raises CardError for what is said and wrong."""
    return missing(card_data(folder, (folder / GRAPH_FILE).read_bytes()))


def write_licence(folder: Path, config: TrainingConfig) -> None:
    """licence.txt from what card and training file say, unless a person has written one."""
    file = folder / LICENCE
    if file.exists():
        return
    card = read_yaml((folder / CARD_FILE).read_bytes(), str(folder / CARD_FILE))
    data = config.data
    text = f"Weights: {card['licences']['weights']}\nTrained on: {data.name}\nLicence of the data: {data.licence}\n"
    write_whole(file, f"{text}Source of the data: {data.source}\n".encode())
