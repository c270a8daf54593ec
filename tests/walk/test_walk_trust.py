"""What people and the golden case decide holds in the walk: limits of an approval, going back, a failed model."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.files.nifti import write_nifti
from residency.labels import Side
from residency.models import publish, publish_statement
from residency.package import ModelPackage, Payload, build_package
from residency.pipeline import Ending, Outcome, read_study
from residency.selection import Policy
from residency.standing import Scope
from residency.testing.cards import example_card
from residency.testing.graphs import threshold_graph
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop
from residency.trust import Kind, Role, SigningKey, Statement, TrustedKey, sign_statement
from residency.volume import regular_grid

CROP = {"SeriesDescription": "HippoCrop", "BodyPartExamined": None, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}
GRID = regular_grid((8, 9, 10), (1, 1, 1))
IMAGE = np.random.default_rng(3).normal(size=GRID.shape).astype(np.float32)


@pytest.fixture
def study(ward) -> str:
    """One hippocampus crop in the ward's archive, its rule approved."""
    ward.approve_rules()
    files = mr_series(hippocampus_crop(Side.LEFT), **CROP)
    read = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
    ward.archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in zip(read, files, strict=True))
    return str(read[0].StudyInstanceUID)


@pytest.fixture
def approver(ward) -> SigningKey:
    key = SigningKey.new()
    ward.site.add_key(TrustedKey(key.public, frozenset({Role.APPROVER}), "Dr A", dt.datetime.now(dt.UTC)))
    return key


def state(ward, key: SigningKey, kind: Kind, digest: str, **fields: Any) -> None:
    """Say something about a model of the ward, an hour ago."""
    issued = fields.pop("issued", dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    statement = Statement(kind=kind, subject=digest, issuer=key.key_id, role=Role.APPROVER, issued=issued, **fields)
    publish_statement(ward.archive, ward.house().models[digest], sign_statement(statement, key))


def read(ward, study: str, *, dry: bool = False, **policy: Any) -> Outcome:
    """The outcome of the crop; results stored before are series of the study too."""
    outcomes = read_study(study, ward.house(), Policy(**policy), dry=dry).outcomes
    return next(outcome for outcome in outcomes if outcome.name == "HippoCrop")


def test_an_approval_holds_where_it_says_and_the_result_says_so(ward, study: str, approver: SigningKey):
    state(ward, approver, Kind.APPROVED, ward.model_digest, scope=Scope(ae_titles=("MR1",), modalities=("MR",)))
    outside = read(ward, study)
    assert outside.ending is Ending.UNTRUSTED
    assert "approved by Dr A for AE MR1; modality MR" in outside.reasons[0]
    assert "AE unknown" in outside.reasons[0]
    assert any("--calling-ae" in reason for reason in outside.reasons)
    assert read(ward, study, ae_title="CT1").ending is Ending.UNTRUSTED

    inside = read(ward, study, ae_title="MR1")
    assert inside.ending is Ending.RESULT
    research = read(ward, study, allow_unapproved=True)
    assert research.ending is Ending.RESULT
    assert set(research.stored.values()).isdisjoint(inside.stored.values())
    texts = [_report(ward, outcome) for outcome in (inside, research)]
    assert "approved by Dr A, AE MR1; modality MR" in texts[0]
    assert "not approved at this site: research use" in texts[1]


def _report(ward, outcome: Outcome) -> str:
    (row,) = [r for r in ward.archive.find(Level.INSTANCE, Query()) if r.sop_uid == outcome.stored["sr"]]
    (instance,) = ward.archive.instances(row.series_uid, [row.sop_uid])
    return str(pydicom.dcmread(io.BytesIO(instance.data)))


def test_an_approval_ends_on_its_day(ward, study: str, approver: SigningKey):
    now = dt.datetime.now(dt.UTC)
    state(ward, approver, Kind.APPROVED, ward.model_digest, expires=now - dt.timedelta(minutes=1))
    assert read(ward, study, dry=True).ending is Ending.UNTRUSTED
    state(ward, approver, Kind.APPROVED, ward.model_digest, expires=now + dt.timedelta(hours=1))
    assert read(ward, study, dry=True).ending is Ending.WOULD_RUN


def failing(expected: np.ndarray) -> ModelPackage:
    """A model whose golden case does not come out."""
    nifti = "application/x-nifti+gzip"
    card = example_card(
        {
            "parameters": 4,
            "tiling": {"window": [8, 8, 8], "overlap": 0.5},
            "identity.family": "failing",
        }
    )
    return build_package(
        card,
        [
            Payload("graph", "graph.onnx", "application/onnx", threshold_graph()),
            Payload("golden/input", "golden-input.nii.gz", nifti, write_nifti(IMAGE, GRID)),
            Payload("golden/expected", "golden-expected.nii.gz", nifti, write_nifti(expected, GRID)),
        ],
    )


def test_a_model_that_failed_here_is_not_offered_and_not_tried_again(
    ward, study: str, approver: SigningKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """It computes something else than was published: whoever asks for it hears the figure; the sound one is used."""
    package = failing(IMAGE < 0)
    publish(ward.archive, package, ward.key)
    first = read(ward, study, model="failing", allow_unapproved=True)
    assert first.ending is Ending.UNTRUSTED
    assert "gives Dice 0.0000" in first.reasons[0]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the golden case was replayed again")

    with monkeypatch.context() as patched:
        patched.setattr("residency.assemble.admit", never)
        again = read(ward, study, model="failing", allow_unapproved=True)
    assert again.ending is Ending.UNTRUSTED
    assert "gives Dice 0.0000" in again.reasons[0]
    assert "residency models admit" in again.reasons[0]
    sound = read(ward, study, dry=True, allow_unapproved=True)
    assert sound.digest == ward.model_digest
