"""A classifier of radiographs through the whole walk: published, admitted, chosen, run, reported, found again."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.cli.results import Format, exported
from residency.cli.stored import read_result
from residency.dicom.findings import read_report
from residency.files.nifti import write_nifti
from residency.models import publish
from residency.package import ModelPackage, Payload, build_package
from residency.pipeline import Ending, Outcome, read_study
from residency.selection import Policy
from residency.testing.cards import EXAMPLE, example_card
from residency.testing.graphs import mean_classifier_graph
from residency.testing.phantoms import radiograph
from residency.volume import regular_grid

POLICY = Policy(allow_unapproved=True, model="chest")
CHEST = {"scheme": "SCT", "value": "816094009", "meaning": "Chest"}
MORPHOLOGY = {"scheme": "SCT", "value": "49755003", "meaning": "Morphologic abnormality"}
CLASSES = [
    {
        "index": 0,
        "name": "consolidation",
        "category": MORPHOLOGY,
        "type": {"scheme": "SCT", "value": "95436008", "meaning": "Lung consolidation"},
        "region": CHEST,
    },
    {"index": 1, "name": "pneumothorax", "type": {"scheme": "SCT", "value": "36118008", "meaning": "Pneumothorax"}},
    {"index": 2, "name": "nothing to name"},
]
WEIGHTS, BIASES = [12.0, -12.0, 0.0], [-4.8, 4.8, -9.0]
"""Of the mean of an image whose values are spread over 0 to 1: bright is consolidated, dark holds air."""


def expected(image: np.ndarray) -> list[float]:
    """The network by hand: the same in plain numpy."""
    spread = (image - image.min()) / (image.max() - image.min())
    return [1 / (1 + math.exp(-(w * float(spread.mean()) + b))) for w, b in zip(WEIGHTS, BIASES, strict=True)]


def classifier(recorded: dict[str, float] | None = None) -> ModelPackage:
    card = example_card(
        {
            "identity.name": "Chest reader",
            "identity.family": "chest",
            "task": "classification",
            "inputs.0.modalities": ["DX", "CR"],
            "inputs.0.regions": [CHEST],
            "inputs.0.recipe": {
                "steps": [
                    {"name": "normalise", "parameters": {"method": "min-max"}},
                    {"name": "resize", "parameters": {"shape": [1, 60, 40]}},
                ]
            },
            "inputs.0.dimensions": 2,
            "outputs": [
                {
                    "name": "findings",
                    "tensor": "scores",
                    "kind": "classification",
                    "classes": CLASSES,
                    "decision": {"activation": "sigmoid", "rule": "threshold", "threshold": 0.5},
                }
            ],
            "tiling": {"window": [1, 60, 40], "overlap": 0},
            "golden": {**EXAMPLE["golden"], "expected": "golden-expected.json"},
            "parameters": 6,
        }
    )
    image = np.random.default_rng(1).random((1, 60, 40)).astype(np.float32)
    names = [str(one["name"]) for one in CLASSES]
    golden = recorded or dict(zip(names, expected(image), strict=True))
    return build_package(
        card,
        [
            Payload("graph", "graph.onnx", "application/onnx", mean_classifier_graph(WEIGHTS, BIASES)),
            Payload(
                "golden/input",
                "golden-input.nii.gz",
                "application/x-nifti+gzip",
                write_nifti(image, regular_grid(image.shape, (1.0, 1.0, 1.0))),
            ),
            Payload("golden/expected", "golden-expected.json", "application/json", json.dumps(golden).encode()),
        ],
    )


def walked(ward, data: bytes) -> Outcome:
    """The outcome of the one radiograph, in a ward where the classifier is published."""
    if not any(model.card.identity.family == "chest" for model in ward.house().models.values()):
        publish(ward.archive, classifier(), ward.key)
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    ward.archive.store([Instance(str(header.SOPInstanceUID), data)])
    reading = read_study(str(header.StudyInstanceUID), ward.house(), POLICY)
    (outcome,) = [one for one in reading.outcomes if not one.own]
    return outcome


def stored(ward, uid: str) -> bytes:
    (row,) = ward.archive.find(Level.INSTANCE, Query(sop_uid=uid))
    (found,) = ward.archive.instances(row.series_uid, [uid])
    return found.data


PHANTOM = np.tile(np.linspace(0, 4000, 40, dtype=np.uint16), (60, 1))
PHANTOM[:, 30:] = 4000


@pytest.mark.parametrize("inverse", [False, True])
def test_a_phantom_is_classified_as_the_network_says_however_it_is_stored(
    ward, inverse: bool, dciodvfy: Callable[[bytes], list[str]], dsrdump: Callable[[bytes], str]
) -> None:
    outcome = walked(ward, radiograph(PHANTOM, inverse=inverse))
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert list(outcome.stored) == ["sc", "sr"]
    probabilities = expected(PHANTOM.astype(np.float64))
    document = stored(ward, outcome.stored["sr"])
    assert dciodvfy(document) == []
    assert "Lung consolidation" in dsrdump(document)
    groups = highdicom.sr.srread(io.BytesIO(document)).content.get_image_measurement_groups()
    assert [g.get_measurements()[0].value for g in groups] == pytest.approx(probabilities[:2], abs=1e-5)
    assert [g.tracking_identifier for g in groups] == ["consolidation", "pneumothorax"]
    assert [g.finding_type and g.finding_type.value for g in groups] == ["95436008", None]
    warnings = read_report(document).warnings
    assert "class 'nothing to name' is not reported: the card gives it no code" in warnings
    assert dciodvfy(stored(ward, outcome.stored["sc"])) == []


def test_a_real_radiograph_is_read_bright_as_dense(
    ward, shared_data: Path, dciodvfy: Callable[[bytes], list[str]]
) -> None:
    """A thorax stored as MONOCHROME1: read as it is stored, the network would take air for consolidation."""
    data = (shared_data / "dicom" / "awkward" / "dx_thorax_monochrome1.dcm").read_bytes()
    outcome = walked(ward, data)
    assert outcome.ending is Ending.RESULT, outcome.reasons
    original = pydicom.dcmread(io.BytesIO(data))
    assert original.PhotometricInterpretation == "MONOCHROME1"
    dense = original.pixel_array.max() - original.pixel_array.astype(np.float64)
    document = stored(ward, outcome.stored["sr"])
    groups = read_report(document).groups
    found = {group.tracking_id: group.measurements[0].value for group in groups}
    # Resizing changes the mean a little; taken for its negative, the image would give 0.94 and 0.06.
    assert list(found.values()) == pytest.approx(expected(dense)[:2], abs=0.02)
    assert found["pneumothorax"] > 0.5 > found["consolidation"]
    said = {group.tracking_id: group.evaluations[-1][1] for group in groups}
    assert said == {"consolidation": "Not detected (SCT:260415000)", "pneumothorax": "Detected (SCT:260373001)"}
    assert dciodvfy(document) == []
    assert dciodvfy(stored(ward, outcome.stored["sc"])) == []


def test_a_second_run_finds_the_first(ward) -> None:
    data = radiograph(PHANTOM)
    first, second = walked(ward, data), walked(ward, data)
    assert (first.ending, second.ending) == (Ending.RESULT, Ending.PRESENT)
    assert first.stored == second.stored


def test_the_result_is_found_by_any_of_its_objects_and_shown(ward) -> None:
    outcome = walked(ward, radiograph(PHANTOM))
    rows = {row.sop_uid: row for row in ward.archive.find(Level.INSTANCE, Query())}
    pages = []
    for uid in outcome.stored.values():
        for name in (uid, rows[uid].series_uid):
            result = read_result(name, ward.archive)
            assert set(result.files) == {"sc", "sr"}
            pages.append(exported(result, Format.JSON))
    assert all(page == pages[0] for page in pages)
    said = json.loads(pages[0]["measurements.json"])["measurements"]
    assert [(one["label"], one["quantity"], one["evaluation"]) for one in said] == [
        ("consolidation", "Probability", "Detected"),
        ("pneumothorax", "Probability", "Not detected"),
    ]


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"consolidation": 0.1, "pneumothorax": 0.1, "nothing to name": 0.2}, "was recorded"),
        ({"consolidation": 0.1, "pneumothorax": 0.9}, "a number for each class"),
        ({"consolidation": 0.5, "pneumothorax": 0.5, "nothing to name": 0.5}, "would prove nothing"),
        ({"consolidation": float("nan"), "pneumothorax": 0.5, "nothing to name": 0.4}, "a number for each class"),
    ],
    ids=["another network", "a class missing", "all the same", "no number"],
)
def test_a_golden_case_that_does_not_come_out_is_not_run(ward, recorded: dict[str, float], message: str) -> None:
    publish(ward.archive, classifier(recorded), ward.key)
    outcome = walked(ward, radiograph(PHANTOM))
    assert outcome.ending is Ending.UNTRUSTED
    assert message in outcome.reasons[0]
