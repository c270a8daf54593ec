"""The shipped classifier: a radiograph of a child's chest finds it by labels, and gets a report with probabilities."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.dicom.findings import read_report
from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.models import publish, read_folder
from residency.pipeline import Ending, read_study
from residency.pipeline.compute import compute
from residency.selection import Policy, select
from residency.testing.chest import drawn_chest
from residency.testing.phantoms import radiograph

CHILD = {"PatientAge": "004Y"}
HAND = {"BodyPartExamined": "HAND", "AnatomicRegionSequence": None}


@pytest.fixture
def with_pneumonia(make_ward, tmp_path: Path, repository: Path):
    """A ward that has the shipped classifier beside the hippocampus model."""
    ward = make_ward(tmp_path)
    publish(ward.archive, read_folder(repository / "models" / "pneumonia"), ward.key)
    return ward


@pytest.fixture(scope="module")
def package(repository: Path):
    return read_folder(repository / "models" / "pneumonia")


def stored(ward, modality: str) -> list[bytes]:
    rows = ward.archive.find(Level.INSTANCE, Query(modality=modality))
    return [i.data for row in rows for i in ward.archive.instances(row.series_uid, [row.sop_uid])]


@pytest.mark.parametrize(
    ("attributes", "chosen", "why"),
    [
        (CHILD, "Pneumonia (demonstration)", ""),
        ({"PatientAge": "067Y"}, None, "Patient's Age"),
        ({}, None, "Patient's Age"),
        (CHILD | HAND, None, "Chest"),
        (CHILD | {"Modality": "MG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, None, "MG"),
    ],
    ids=["a child's chest", "an adult's", "of unknown age", "a child's hand", "a mammogram"],
)
def test_a_model_for_the_chest_of_a_child_is_found_by_labels_alone(
    with_pneumonia, attributes: dict[str, str], chosen: str | None, why: str
) -> None:
    """Two models are there, and none is named."""
    house = with_pneumonia.house()
    labels = read_labels([radiograph(drawn_chest(), **attributes)])
    policy = Policy(allow_unapproved=True)
    found = select([labels], house.candidates, rules=house.rules, policy=policy, content=lambda *_: None)
    (outcome,) = found.outcomes
    assert (outcome.candidate and outcome.candidate.card.identity.name) == chosen
    assert why in " ".join(outcome.reasons)


@pytest.mark.parametrize("inverse", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
def test_a_radiograph_in_a_folder_ends_as_a_report_with_probabilities(
    with_pneumonia,
    package,
    tmp_path: Path,
    inverse: bool,
    dciodvfy: Callable[[bytes], list[str]],
    dsrdump: Callable[[bytes], str],
) -> None:
    """`residency run`, as a person says it, on an archive that is a folder."""
    ward = with_pneumonia
    data = radiograph(drawn_chest(opacity=True), inverse=inverse, **CHILD)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "chest.dcm").write_bytes(data)
    environment = os.environ | {
        "RESIDENCY_HOME": str(ward.settings.home),
        "RESIDENCY_ARCHIVE": str(ward.settings.archive),
        "RESIDENCY_THREADS": "1",
    }
    command = [sys.executable, "-m", "residency", "run", str(tmp_path / "study"), "--allow-unapproved", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (study,) = json.loads(done.stdout)
    (outcome,) = study["outcomes"]
    assert outcome["model"].startswith("Pneumonia (demonstration)")
    assert set(outcome["stored"]) == {"sc", "sr"}

    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    series = open_series([data])
    decided = compute(package.card, network, {"radiograph": series.volume()})["finding"]
    assert decided.sum() == pytest.approx(1, abs=1e-5)
    assert np.ptp(decided) > 0.01

    said = [(one["segment"], one["quantity"], one["value"]) for one in outcome["measurements"]]
    assert [one[:2] for one in said] == [("normal", "Probability"), ("pneumonia", "Probability")]
    assert [one[2] for one in said] == pytest.approx(decided, abs=1e-5)

    (document,) = stored(ward, "SR")
    assert dciodvfy(document) == []
    assert "Pneumonia" in dsrdump(document)
    report = read_report(document)
    found = {group.tracking_id: group for group in report.groups}
    assert [found[name].measurements[0].value for name in ("normal", "pneumonia")] == pytest.approx(decided, abs=1e-5)
    evaluated = [found[name].evaluations[0][1] for name in ("normal", "pneumonia")]
    detected = ["Detected" if p == decided.max() else "Not detected" for p in decided]
    assert [one.split(" (")[0] for one in evaluated] == detected
    assert "A demonstration on 28 x 28 pixels" in dsrdump(document)


def test_the_same_chest_answers_alike_on_another_detector(package) -> None:
    """Of twice the pixels, at half their size and with other values for dense: the child is the same."""
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)

    def probability(data: bytes) -> float:
        return float(compute(package.card, network, {"radiograph": open_series([data]).volume()})["finding"][1])

    one = probability(radiograph(drawn_chest(), **CHILD))
    fine = drawn_chest(rows=1440, columns=1280)
    other = probability(radiograph((fine // 2 + 500).astype(np.uint16), spacing_mm=(0.1, 0.1), **CHILD))
    assert other == pytest.approx(one, abs=0.02)


def test_a_chest_in_a_wide_image_is_read_in_its_middle(package) -> None:
    """As the collection was cut: else a child would be squeezed into the square."""
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    square = drawn_chest(rows=640, columns=640)
    wide = np.pad(square, ((0, 0), (200, 200)), constant_values=4000)
    found = [
        compute(package.card, network, {"radiograph": open_series([radiograph(image, **CHILD)]).volume()})["finding"]
        for image in (square, wide)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_it_is_admitted_and_says_what_it_is(with_pneumonia, package) -> None:
    labels = {code.value for code in package.card.diseases}
    assert labels == {"233604007"}
    assert package.card.intended_use.role == "demonstration"
    assert sum(len(payload.data) for payload in package.payloads) < 1_000_000
    data = radiograph(drawn_chest(), **CHILD)
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    with_pneumonia.archive.store([Instance(str(header.SOPInstanceUID), data)])
    reading = read_study(str(header.StudyInstanceUID), with_pneumonia.house(), Policy(allow_unapproved=True))
    assert [one.ending for one in reading.outcomes if not one.own] == [Ending.RESULT]
