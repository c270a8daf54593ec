"""The walk on two real MR studies: the right series, explained; results that outside judges accept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from residency.archive import Level, Query
from residency.assemble import open_house, open_loose_files
from residency.dicom.findings import read_report, read_segmentation
from residency.dicom.series import open_series
from residency.pipeline import Ending, Outcome, Reading, read_study
from residency.selection import Policy

RESEARCH = Policy(allow_unapproved=True)


def walk(ward: Any, folder: Path, policy: Policy = RESEARCH) -> Reading:
    loose = open_loose_files(folder)
    study = next(loose.find(Level.STUDY, Query())).study_uid
    return read_study(study, open_house(ward.settings, images=loose, models=ward.archive), policy)


def by_name(reading: Reading) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in reading.outcomes}


def stored(ward: Any, outcome: Outcome, role: str) -> bytes:
    uid = outcome.stored[role]
    row = next(ward.archive.find(Level.INSTANCE, Query(sop_uid=uid)))
    return next(iter(ward.archive.instances(row.series_uid, [uid]))).data


@pytest.mark.parametrize("number", [1, 2])
def test_without_an_approved_rule_nothing_is_chosen_and_the_rule_is_suggested(ward, studies, number):
    outcomes = by_name(walk(ward, studies[number]))
    assert {o.ending for o in outcomes.values()} == {Ending.NONE}
    assert "anatomic region missing" in outcomes["HippoCrop"].reasons[0]
    assert any("residency rules approve hippocrop" in reason for reason in outcomes["HippoCrop"].reasons)
    assert not list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))


@pytest.mark.parametrize(("number", "others"), [(1, {"T1post", "FLAIR_reg"}), (2, {"T1post", "T2_reg", "dT1"})])
def test_the_one_rule_that_ships_makes_the_crop_fit_and_the_others_say_why_not(ward, studies, number, others):
    ward.approve_rules()
    outcomes = by_name(walk(ward, studies[number]))
    chosen = outcomes.pop("HippoCrop")
    assert chosen.ending is Ending.RESULT
    assert any("rule hippocrop version 1" in reason for reason in chosen.findings.reasons)
    assert set(outcomes) == others
    for outcome in outcomes.values():
        assert outcome.ending is Ending.NONE
        assert outcome.reasons[0]


def test_a_model_that_nobody_approved_is_not_run_without_leave(ward, studies):
    ward.approve_rules()
    outcome = by_name(walk(ward, studies[1], Policy()))["HippoCrop"]
    assert outcome.ending is Ending.UNTRUSTED
    assert "approv" in outcome.reasons[0]


@pytest.mark.parametrize("number", [1, 2])
def test_the_results_satisfy_the_judges_and_plausible_volumes_are_said(
    ward, studies, number, dciodvfy, dcmdump, dsrdump
):
    ward.approve_rules()
    outcome = by_name(walk(ward, studies[number]))["HippoCrop"]
    seg, sr = stored(ward, outcome, "seg"), stored(ward, outcome, "sr")
    for data in (seg, sr):
        dciodvfy(data)
        dcmdump(data)
    dsrdump(sr)

    findings = outcome.findings
    masks = highdicom.seg.segread(io.BytesIO(seg))
    read = read_segmentation(seg)
    for segment in findings.segments:
        volume = masks.get_volume(segment_numbers=[segment.number], combine_segments=True)
        assert int((volume.array > 0).sum()) == int(segment.mask.sum())
        again = next(s.segment for s in read.segments if s.segment.number == segment.number)
        assert again.mask.sum() == segment.mask.sum()
        assert np.abs(np.subtract(again.colour, segment.colour)).max() <= 1

    text = str(pydicom.dcmread(io.BytesIO(sr)))
    assert ward.model_digest.removeprefix("sha256:") in text
    assert findings.model.manifest_uid in text
    assert "not approved at this site: research use" in text
    numbers = [n.measurement for group in read_report(sr).groups for n in group.numbers]
    volumes = {m.value for m in numbers if m.unit.value == "mm3"}
    assert volumes == {m.value for m in findings.measurements if m.unit.value == "mm3"}
    # Adult hippocampi hold about 2 to 5 mL; both parts are there.
    millilitres = [m.value for m in findings.measurements if m.unit.value == "mL"]
    assert len(millilitres) == 2
    assert 2.0 < sum(millilitres) < 5.0


def test_a_second_run_is_the_same_result_and_computes_nothing(ward, studies):
    ward.approve_rules()
    first = by_name(walk(ward, studies[1]))["HippoCrop"]
    again = by_name(walk(ward, studies[1]))["HippoCrop"]
    assert again.ending is Ending.PRESENT
    assert again.stored == first.stored
    assert len(list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))) == 1


def test_the_same_walk_at_another_site_gives_the_same_bytes(tmp_path, repository, studies, make_ward):
    one, two = (make_ward(tmp_path / name) for name in ("one", "two"))
    results = []
    for ward in (one, two):
        ward.approve_rules()
        outcome = by_name(walk(ward, studies[1]))["HippoCrop"]
        results.append([stored(ward, outcome, role) for role in ("seg", "sr")])
    assert results[0] == results[1]


def test_results_and_models_in_the_archive_are_never_taken_for_input(ward, studies):
    """A result that comes back as input would make a network read its own opinion."""
    ward.approve_rules()
    loose = open_loose_files(studies[1])
    study = next(loose.find(Level.STUDY, Query())).study_uid
    for row in loose.find(Level.SERIES, Query()):
        ward.archive.store(loose.instances(row.series_uid))
    first = read_study(study, ward.house(), RESEARCH)
    again = read_study(study, ward.house(), RESEARCH)
    assert len(again.outcomes) == len(first.outcomes) + 3
    endings = {o.name: o.ending for o in again.outcomes if o.series_uid not in {x.series_uid for x in first.outcomes}}
    assert set(endings.values()) == {Ending.NONE}


def test_the_mask_lies_in_the_patient_where_the_source_lies(ward, studies):
    ward.approve_rules()
    outcome = by_name(walk(ward, studies[2]))["HippoCrop"]
    loose = open_loose_files(studies[2])
    source = open_series(i.data for i in loose.instances(outcome.series_uid))
    read = read_segmentation(stored(ward, outcome, "seg"))
    for written, again in zip(outcome.findings.segments, read.segments, strict=True):
        there = source.grid.to_lps(np.argwhere(written.mask))
        back = read.grid.to_lps(np.argwhere(again.segment.mask))
        assert np.abs(np.sort(there, axis=0) - np.sort(back, axis=0)).max() < 1e-3


def test_progress_is_told_step_by_step_and_can_stop_the_run(ward, studies):
    ward.approve_rules()
    loose = open_loose_files(studies[1])
    study = next(loose.find(Level.STUDY, Query())).study_uid
    steps: list[str] = []

    class StopError(Exception):
        pass

    def watch(_series: str, step: str, _done: int, _total: int) -> None:
        steps.append(step)
        if step == "write":
            raise StopError

    with pytest.raises(StopError):
        read_study(study, open_house(ward.settings, images=loose, models=ward.archive), RESEARCH, watch=watch)
    assert list(dict.fromkeys(steps)) == ["read", "model", "compile", "infer", "measure", "write"]
    assert not list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))
