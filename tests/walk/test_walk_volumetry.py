"""Hippocampal volumetry on whole heads with the two packages that ship: volumes of both sides, or a reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.archive import Instance, Level, Query
from residency.assemble import label_rules
from residency.codes import Code
from residency.dicom.findings import read_report
from residency.files.nifti import read_nifti, read_nifti_labels
from residency.labels import Side
from residency.measure import ASYMMETRY, INTRACRANIAL_SHARE, MILLILITRE, PERCENT, RATIO, VOLUME
from residency.models import publish, read_folder
from residency.pipeline import Ending, Outcome, read_study
from residency.pipeline.forms import ResultForms
from residency.prepare.orient import Orient
from residency.selection import Policy
from residency.testing.cascades import head
from residency.testing.dressed import DRESSED, dressed_study
from residency.testing.phantoms import mr_series
from residency.testing.template import as_instances, template
from residency.volume import Volume

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
RESEARCH = Policy(allow_unapproved=True, allow_research=True)
SIDES = {Side.LEFT: "left", Side.RIGHT: "right"}
RIGHT_HIPPOCAMPUS, LEFT_HIPPOCAMPUS = 47, 48
"""Values of DLMUSE, the network that made the references of the real heads."""
SCANNER = "Ax T1 3D"
RULE = f"""
[[rule]]
id = "t1-of-our-scanner"
version = 1

[rule.when]
Modality = "MR"
SeriesDescription = "{SCANNER}"

[rule.gives]
weighting = "T1"
"""


@dataclass(frozen=True)
class Clinic:
    """A ward with both packages published, signed by a key that it trusts, and a label rule of its own approved."""

    ward: Any

    def read(self, instances: Sequence[Instance], policy: Policy = RESEARCH, *, dry: bool = False) -> Outcome:
        """What becomes of the one series of a study."""
        self.ward.archive.store(instances)
        series = {row.series_uid for row in self.ward.archive.find(Level.INSTANCE, Query(sop_uid=instances[0].uid))}
        study = next(self.ward.archive.find(Level.INSTANCE, Query(sop_uid=instances[0].uid))).study_uid
        house = replace(self.ward.house(), forms=ResultForms(summary="never"))
        (outcome,) = [o for o in read_study(study, house, policy, dry=dry).outcomes if o.series_uid in series]
        return outcome

    def stored(self, outcome: Outcome) -> dict[str, bytes]:
        """The objects of a result by role."""
        found = {}
        for role, uid in outcome.stored.items():
            row = next(self.ward.archive.find(Level.INSTANCE, Query(sop_uid=uid)))
            found[role] = next(iter(self.ward.archive.instances(row.series_uid, [uid]))).data
        return found


@pytest.fixture
def clinic(make_ward: Callable[[Path], Any], repository: Path, tmp_path: Path) -> Clinic:
    """A clinic with nothing in it but the two models."""
    ward = make_ward(tmp_path / "clinic")
    publish(ward.archive, read_folder(repository / "models" / "head"), ward.key)
    (ward.settings.home / "label_rules.toml").write_text(RULE)
    for rule in label_rules(ward.site).rules:
        ward.site.approve_rules(rule.digest, by="A. Radiologist", now=NOW)
    return Clinic(ward)


def scanned(volume: Volume, name: str = "head") -> list[Instance]:
    """A series as a scanner sends it: no coded contrast; its description is what the rule of the clinic knows."""
    return as_instances(mr_series(volume, study=name, series="t1", SeriesDescription=SCANNER))


def value(outcome: Outcome, label: str, quantity: Code, unit: Code) -> float:
    assert outcome.findings is not None
    assert outcome.findings.before is not None
    wholes = (*outcome.findings.structures, *outcome.findings.before.structures)
    (structure,) = [one for one in wholes if one.label == label]
    (found,) = [m.value for m in structure.measurements if m.quantity == quantity and m.unit == unit]
    return found


def check_numbers(outcome: Outcome) -> tuple[float, float]:
    """Asymmetry and shares are what the volumes make of them; gives mL of left and right."""
    left, right = (value(outcome, f"Hippocampus, {side}", VOLUME, MILLILITRE) for side in SIDES.values())
    cavity = value(outcome, "Intracranial volume", VOLUME, MILLILITRE)
    compared = value(outcome, "Hippocampus, left and right", ASYMMETRY, RATIO)
    assert compared == pytest.approx((left - right) / ((left + right) / 2))
    for side, found in (("left", left), ("right", right), ("left and right", left + right)):
        share = value(outcome, f"Hippocampus, {side}", INTRACRANIAL_SHARE, PERCENT)
        assert share == pytest.approx(100 * found / cavity)
    return left, right


@pytest.mark.slow
def test_both_hippocampi_of_the_dressed_template_are_measured(clinic, dciodvfy, dsrdump):
    """The template is its own mirror image: its sides nearly agree. An adult's hippocampus has 2 to 5 mL."""
    refused = clinic.read(dressed_study(), Policy(allow_unapproved=True), dry=True)
    assert refused.ending is Ending.UNTRUSTED
    assert any("allow_research" in reason for reason in refused.reasons)
    outcome = clinic.read(dressed_study())
    assert (outcome.name, outcome.ending) == (DRESSED, Ending.RESULT), outcome.reasons
    left, right = check_numbers(outcome)
    assert 2.0 < left < 6.0
    assert abs(value(outcome, "Hippocampus, left and right", ASYMMETRY, RATIO)) < 0.1
    assert 2.0 < right < 6.0
    assert 1400 < value(outcome, "Intracranial volume", VOLUME, MILLILITRE) < 2300
    for segment in outcome.findings.segments:
        x = outcome.findings.grid.to_lps(np.argwhere(segment.mask))[:, 0]
        assert (x > 0).all() if segment.side is Side.LEFT else (x < 0).all()

    objects = clinic.stored(outcome)
    assert set(objects) == {"seg", "seg-before", "sr"}
    assert [dciodvfy(data) for data in objects.values()] == [[], [], []]
    dsrdump(objects["sr"])
    report = read_report(objects["sr"])
    assert {group.algorithm.name for group in report.groups} == {"Head", "Hippocampus"}
    stated = {(m.quantity.value, m.unit.value) for group in report.groups for m in group.measurements}
    assert stated >= {("118565006", "mm3"), ("118565006", "mL"), ("ASYMMETRY", "1"), ("ICV-SHARE", "%")}


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["SPL", "LPS"])
def test_both_hippocampi_of_a_real_head_are_measured_on_their_own_side(clinic, shared_data, letters):
    """A head that no training saw, as axial and as sagittal slices; the reference tells left from right."""
    case = shared_data / "brain_extraction" / "nichart_12"
    turn = Orient(letters=letters).apply
    image = read_nifti((case / "t1.nii.gz").read_bytes())
    outcome = clinic.read(scanned(turn(replace(image, array=np.rint(image.array)))))
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert any("rule t1-of-our-scanner" in reason for reason in outcome.findings.reasons)
    assert all(1.0 < volume < 6.0 for volume in check_numbers(outcome))

    labels, grid = read_nifti_labels((case / "dlmuse.nii.gz").read_bytes())
    names = (LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS)
    for segment in outcome.findings.segments:
        places = grid.to_index(outcome.findings.grid.to_lps(np.argwhere(segment.mask)))
        there = labels[tuple(np.rint(places).astype(int).T)]
        own, other = names if segment.side is Side.LEFT else names[::-1]
        assert np.mean(there == own) > 0.3, segment.label
        assert not (there == other).any(), segment.label


def test_a_head_without_its_skull_does_not_fit(clinic):
    """The border of the brain that the network seeks is not there any more."""
    outcome = clinic.read(as_instances(_bare()))
    assert outcome.ending is Ending.NONE
    assert "step before = Head" in outcome.reasons[0]
    assert "skull present = no; needed: yes" in outcome.reasons[0]


def _bare() -> list[bytes]:
    """The template as it is, which says nothing of its skull."""
    return mr_series(template(), study="bare", series="t1", SeriesDescription=SCANNER)


def test_thick_slices_are_refused_by_both_with_the_reason(clinic, studies):
    for folder in studies.values():
        files = [path.read_bytes() for path in sorted(folder.rglob("*T1post*/*.dcm"))]
        outcome = clinic.read(as_instances(files), dry=True)
        assert outcome.name == "T1post"
        assert outcome.ending is Ending.NONE
        assert "voxel spacing along SI = 6.5 mm; needed: 0.4 to 3.3 mm" in outcome.reasons[0]
        asked = clinic.read(as_instances(files), replace(RESEARCH, model="hippocampus"), dry=True)
        assert any("voxel spacing along SI = 6.5 mm; needed: 0.5 to 2.1 mm" in reason for reason in asked.reasons)


def test_where_no_model_finds_the_hippocampi_it_is_said_which_is_missing(ward):
    """The hippocampus model alone reads crops as ever; of a head it says in one line what it lacks."""
    head_series = as_instances(mr_series(head(), study="alone", series="t1", AcquisitionContrast="T1"))
    outcome = Clinic(ward).read(head_series, dry=True)
    assert outcome.ending is Ending.NONE
    assert outcome.reasons[0].startswith("step before = no model of family 'head' is in the archive")
