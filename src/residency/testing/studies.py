"""Series and candidate models to test selection with: plain values, changed where a test needs them otherwise."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from residency.codes import Code, canonical, region_of_body_part
from residency.labels import Evidence, SeriesLabels
from residency.selection import Candidate
from residency.standing import Approval, Standing
from residency.testing.cards import example_card

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

_OF_THE_CARD = ("diseases", "inputs", "step_before")


def regions(*terms: str) -> Evidence[tuple[Code, ...]]:
    """Evidence from Body Part Examined terms, or from codes as SCHEME:VALUE, translated as reading translates them."""
    named = "Anatomic Region Sequence" if ":" in terms[0] else "Body Part Examined"
    return Evidence(tuple(map(_region, terms)), f"{named} = {', '.join(terms)}")


def region_fields(term: str) -> dict[str, str]:
    """A region as a card holds it."""
    return dict(_region(term).model_dump())


def example_series(uid: str = "1.2.3.1", **changes: Any) -> SeriesLabels:
    """An axial MR series of a brain, original and whole, with fields of SeriesLabels changed."""
    values: dict[str, Any] = {
        "study_uid": "1.2.3",
        "series_uid": uid,
        "sop_classes": (MR_IMAGE,),
        "modality": "MR",
        "frame_of_reference": "1.2.3.0",
        "rows": 256,
        "columns": 256,
        "slices": 160,
        "spacing_mm": (1.0, 1.0, 1.0),
        "orientation": "SPL",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "photometric": "MONOCHROME2",
        "regions": regions("BRAIN"),
        "attributes": {"Modality": "MR", "SeriesDescription": "axial"},
    }
    return SeriesLabels(**{**values, **changes})


def example_candidate(
    family: str = "brain", changes: dict[str, Any] | None = None, *, sequence: int = 1, **standing: Any
) -> Candidate:
    """A model for MR of the brain that this site trusts and approved.

    changes   fields of the card by dotted path; but for "diseases", "inputs" and "step_before", one without a dot is a
              field of the first input
    standing  fields of its Standing. The digest follows from all of these.
    """
    paths: dict[str, Any] = {
        "identity.family": family,
        "identity.name": family,
        "identity.sequence": sequence,
        "identity.version": f"{sequence}.0.0",
        "inputs.0.regions": [region_fields("BRAIN")],
        "diseases": [],
    }
    for key, value in (changes or {}).items():
        paths[key if "." in key or key in _OF_THE_CARD else f"inputs.0.{key}"] = value
    if "inputs" in paths:
        paths.pop("inputs.0.regions")
    text = json.dumps([paths, standing], sort_keys=True, default=str)
    values: dict[str, Any] = {
        "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        "publisher": "Example",
        "admitted": True,
        "approval": Approval.APPROVED,
        **standing,
    }
    return Candidate(example_card(paths), Standing(**values))


def _region(term: str) -> Code:
    scheme, separator, value = term.partition(":")
    found = Code(scheme=scheme, value=value, meaning="as sent") if separator else region_of_body_part(term)
    if found is None:
        raise ValueError(f"'{term}' is no Body Part Examined term")
    return canonical(found)
