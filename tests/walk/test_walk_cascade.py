"""A cascade from archive to archive: two chosen models, crops with proven sides, one result of both."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.archives.loose import LooseFiles
from residency.assemble import open_house, open_site
from residency.cli.run import exit_status
from residency.cli.stored import drawn_of, measurements_of, numbers_of, read_result
from residency.codes import Code
from residency.dicom.findings import read_report
from residency.labels import Side
from residency.measure import ASYMMETRY, INTRACRANIAL_SHARE, MILLILITRE, PERCENT, RATIO, VOLUME
from residency.models import publish
from residency.package import ModelPackage, build_package
from residency.pipeline import Ending, House, Outcome, read_study
from residency.pipeline.forms import ResultForms
from residency.prepare.orient import Orient
from residency.recall import affected
from residency.selection import Policy
from residency.settings import Settings
from residency.site import Site
from residency.testing.cascades import (
    BACK,
    CAVITY,
    FRONT,
    LEFT,
    RIGHT,
    SIZES,
    crop_model,
    head,
    localiser,
)
from residency.testing.graphs import nearest_level_graph
from residency.testing.phantoms import mr_series
from residency.trust import Role, SigningKey, TrustedKey
from residency.volume import Grid, Volume

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
RESEARCH = Policy(allow_unapproved=True)
COARSE = (4.0, 2.0, 2.0)
"""Spacing of heads that are only read: fewer images."""


@dataclass(frozen=True)
class Place:
    """An embedded archive, and the site beside it, with no model yet."""

    archive: FolderArchive
    site: Site
    settings: Settings

    def publish(self, package: ModelPackage, *, trusted: bool = True) -> None:
        """Publish a model, signed with a key of its own that the site trusts or not."""
        key = SigningKey.new()
        publish(self.archive, package, key)
        if trusted:
            self.site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Test publisher", NOW))

    def house(self, **forms: Any) -> House:
        """What the walk is handed; without pictures, which take longest, unless they are asked for."""
        house = open_house(self.settings, images=self.archive, models=self.archive)
        return replace(house, forms=ResultForms(**{"summary": "never", **forms}))

    def store(self, files: Sequence[bytes]) -> str:
        """Store a series; its study."""
        read = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
        self.archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in zip(read, files, strict=True))
        return str(read[0].StudyInstanceUID)

    def read(self, volume: Volume | None = None, policy: Policy = RESEARCH, study: str = "", **forms: Any) -> Outcome:
        """What becomes of a head, in a study of its own."""
        shown = volume or head(spacing_mm=COARSE)
        digest = hashlib.sha256(shown.array.tobytes() + shown.grid.affine.tobytes()).hexdigest()
        study = self.store(mr_series(shown, study=study or digest[:16], series="head"))
        outcomes = read_study(study, self.house(**forms), policy).outcomes
        return next(outcome for outcome in outcomes if not outcome.own)

    def objects(self, outcome: Outcome) -> dict[str, bytes]:
        """The stored objects by role."""
        found = {}
        for role, uid in outcome.stored.items():
            (row,) = [r for r in self.archive.find(Level.INSTANCE, Query(sop_uid=uid)) if r.sop_uid == uid]
            (found[role],) = [i.data for i in self.archive.instances(row.series_uid, [uid])]
        return found


def new_place(folder: Path) -> Place:
    settings = Settings(home=folder / "home", archive=str(folder / "archive"), threads=1)
    return Place(FolderArchive(folder / "archive"), open_site(settings), settings)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of one's own, without a model."""
    return new_place(tmp_path)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One place with both models for all heads that are only read."""
    made = new_place(tmp_path_factory.mktemp("cascade"))
    made.publish(localiser())
    made.publish(crop_model())
    return made


def value(outcome: Outcome, label: str, quantity: Code, unit: Code) -> float:
    (structure,) = [one for one in outcome.findings.structures if one.label == label]
    (found,) = [m.value for m in structure.measurements if m.quantity == quantity and m.unit == unit]
    return found


def places(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(voxels, 3): the centre of every voxel of a mask, LPS mm, in an order that is the same for every grid."""
    points = np.round(grid.to_lps(np.argwhere(mask)), 6)
    return points[np.lexsort(points.T)]


def labels(outcome: Outcome) -> dict[str, Side | None]:
    return {segment.label: segment.side for segment in outcome.findings.segments}


BOTH = {"Front, left": Side.LEFT, "Back, left": Side.LEFT, "Front, right": Side.RIGHT, "Back, right": Side.RIGHT}


@pytest.mark.parametrize("letters", ["SPL", "IAR", "LPS", "PSL"])
def test_both_sides_are_found_and_lie_where_they_are(cascade, letters):
    """Axial, sagittal, coronal and flipped: every voxel of the structures, on the source's grid, with its side."""
    volume = Orient(letters=letters).apply(head(spacing_mm=COARSE))
    outcome = cascade.read(volume)
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert labels(outcome) == BOTH
    for segment in outcome.findings.segments:
        level = FRONT if segment.label.startswith("Front") else BACK
        there = places(volume.array == level, volume.grid)
        ours = there[there[:, 0] > 0] if segment.side is Side.LEFT else there[there[:, 0] < 0]
        assert np.abs(places(segment.mask, outcome.findings.grid) - ours).max() < 1e-6
    x = volume.grid.to_lps(np.moveaxis(np.indices(volume.grid.shape), 0, -1))[..., 0]
    voxel_ml = volume.grid.voxel_mm3 / 1000
    left, right = (int(np.count_nonzero((volume.array > CAVITY) & side)) * voxel_ml for side in (x > 0, x < 0))
    inside = int(np.count_nonzero(volume.array)) * voxel_ml
    assert value(outcome, "Hippocampus, left", VOLUME, MILLILITRE) == pytest.approx(left)
    assert value(outcome, "Hippocampus, right", VOLUME, MILLILITRE) == pytest.approx(right)
    share = value(outcome, "Hippocampus, left", INTRACRANIAL_SHARE, PERCENT)
    assert share == pytest.approx(100 * left / inside)
    compared = value(outcome, "Hippocampus, left and right", ASYMMETRY, RATIO)
    assert compared == pytest.approx((left - right) / ((left + right) / 2))
    assert compared > 0


def test_the_objects_are_sound_and_name_both_networks(cascade, dciodvfy, dsrdump):
    outcome = cascade.read(study="sound")
    assert set(outcome.stored) == {"seg", "seg-before", "sr"}
    objects = cascade.objects(outcome)
    assert [dciodvfy(data) for data in objects.values()] == [[], [], []]
    assert dsrdump(objects["sr"]).count("Algorithm Name") == len(read_report(objects["sr"]).groups)

    first, second = localiser(), crop_model()
    read = {role: pydicom.dcmread(io.BytesIO(data)) for role, data in objects.items()}
    made_by = {
        role: {str(s.SegmentAlgorithmName) for s in read[role].SegmentSequence} for role in ("seg", "seg-before")
    }
    assert made_by == {"seg": {"Parts of the hippocampus"}, "seg-before": {"Head localiser"}}
    for item in read["seg"].SegmentSequence:
        modifiers = item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
        assert {str(m.CodeMeaning) for m in modifiers} & {"Left", "Right"} == {
            str(item.SegmentLabel).split()[-1].title()
        }
    for dataset in (read["seg"], read["sr"]):
        equipment = {str(item.DeviceSerialNumber) for item in dataset.ContributingEquipmentSequence}
        assert equipment >= {one.digest.removeprefix("sha256:") for one in (first, second)}
    for package in (first, second):
        recalled = affected(cascade.archive, package.digest)
        ours = {one.sop_uid for objects in recalled.objects.values() for one in objects}
        assert ours >= {outcome.stored["sr"], outcome.stored["seg-before" if package is first else "seg"]}
    report = read_report(objects["sr"])
    assert {group.algorithm.name for group in report.groups} == {"Head localiser", "Parts of the hippocampus"}
    tracked = {str(s.TrackingUID) for role in ("seg", "seg-before") for s in read[role].SegmentSequence}
    assert tracked < {group.tracking_uid for group in report.groups}
    assert len({group.tracking_uid for group in report.groups}) == len(report.groups)
    assert any("step before, Head localiser 1.0.0: voxel spacing" in line for line in report.choice)
    assert any(line.startswith("crop, left: field of view along LR") for line in report.choice)


def test_a_stored_result_says_what_was_said_when_it_was_made(cascade):
    outcome = cascade.read(study="stored")
    said = numbers_of(outcome.findings)
    for uid in outcome.stored.values():
        stored = read_result(uid, cascade.archive)
        rows = [(r.label, r.side, r.quantity_code, r.unit, pytest.approx(r.value)) for r in measurements_of(stored)]
        assert [(r.label, r.side, r.quantity_code, r.unit, r.value) for r in said.rows] == rows
        assert stored.parameters["digest"] == crop_model().digest
        assert len(stored.segmentation.segments) == 4
        assert len(stored.before.segments) == 2
        assert stored.card.identity.family == "parts"


def test_what_the_step_before_outlines_is_not_the_result_where_the_model_finds_nothing(place):
    """The structures are smaller than what the second model keeps: it stores a report without a Segmentation."""
    place.publish(localiser())
    place.publish(crop_model({"outputs.0.decision.smallest_component_mm3": 500.0}))
    small = (4.0, 6.0, 4.0)
    outcome = place.read(head(((LEFT, small), (RIGHT, small)), spacing_mm=COARSE))
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert set(outcome.stored) == {"seg-before", "sr"}
    for uid in outcome.stored.values():
        stored = read_result(uid, place.archive)
        assert (stored.segmentation, len(stored.before.segments)) == (None, 2)
        assert (stored.algorithm.name, stored.algorithm.version) == ("Parts of the hippocampus", "1.0.0")
        assert stored.card.identity.family == "parts"
        assert stored.warnings == ()
        assert drawn_of(stored).outlines == ()
        outlined = {row.label for row in measurements_of(stored) if row.segment is not None}
        assert outlined == {"Intracranial (step before)", "Hippocampus (step before)"}
        said = [(row.label, row.value) for row in numbers_of(outcome.findings).rows]
        assert [(row.label, pytest.approx(row.value)) for row in measurements_of(stored)] == said


def test_a_lost_segmentation_is_told_and_not_replaced_by_that_of_the_step_before(cascade, tmp_path):
    outcome = cascade.read(study="lost")
    left = FolderArchive(tmp_path / "left")
    kept = {role: data for role, data in cascade.objects(outcome).items() if role != "seg"}
    left.store(Instance(outcome.stored[role], data) for role, data in kept.items())
    stored = read_result(outcome.stored["sr"], left, cascade.archive, cascade.archive)
    assert (stored.segmentation, len(stored.before.segments)) == (None, 2)
    assert stored.algorithm.name == "Parts of the hippocampus"
    assert stored.warnings == (
        f"the Segmentation {outcome.stored['seg']} that the report measures is not in the archive",
    )
    whole = [row for row in measurements_of(read_result(outcome.stored["sr"], cascade.archive)) if row.segment is None]
    assert [row for row in measurements_of(stored) if row.segment is None] == whole


def test_a_result_is_computed_once(cascade, monkeypatch):
    first = cascade.read(head(spacing_mm=(3.5, 2.0, 2.0)))

    def never(*_: object) -> None:
        raise AssertionError("it was computed again")

    monkeypatch.setattr("residency.assemble.fetch", never)
    again = cascade.read(head(spacing_mm=(3.5, 2.0, 2.0)))
    assert (first.ending, again.ending) == (Ending.RESULT, Ending.PRESENT)
    assert dict(again.stored) == dict(first.stored)


def test_another_version_of_the_step_before_is_another_result(place):
    place.publish(localiser())
    place.publish(crop_model())
    first = place.read()
    place.publish(localiser({"identity.version": "1.1.0", "identity.sequence": 2}))
    second = place.read()
    assert (first.ending, second.ending) == (Ending.RESULT, Ending.RESULT)
    assert first.digest == second.digest
    assert set(first.stored.values()).isdisjoint(second.stored.values())


def test_segments_as_a_label_map_stand_beside_those_of_the_step_before(cascade):
    outcome = cascade.read(study="label map", label_map=True)
    assert outcome.ending is Ending.RESULT
    objects = {role: pydicom.dcmread(io.BytesIO(data)) for role, data in cascade.objects(outcome).items()}
    assert (objects["seg"].SegmentationType, objects["seg-before"].SegmentationType) == ("LABELMAP", "BINARY")


@pytest.mark.parametrize("letters", ["SPL", "LPS"])
def test_pictures_show_what_lies_round_the_structures(cascade, letters):
    """They are small in a head, and a face is farther off. Of sagittal slices axial sections are drawn."""
    volume = head(spacing_mm=COARSE)
    outcome = cascade.read(Orient(letters=letters).apply(volume), study=f"pictures {letters}", summary="always")
    assert "sc" in outcome.stored
    drawn = drawn_of(read_result(outcome.stored["sr"], cascade.archive))
    slices, rows, columns = drawn.volume.grid.shape
    assert (slices, rows) == (volume.grid.shape[0], 10 + 11 + 10), "20 mm on each side of a structure"
    assert columns < volume.grid.shape[2]
    shown = {outline.label: int(outline.mask.sum()) for outline in drawn.outlines}
    assert shown == {segment.label: int(segment.mask.sum()) for segment in outcome.findings.segments}


@pytest.mark.parametrize(
    ("structures", "said"),
    [
        (((LEFT, SIZES[0]),), "one structure is found, not one on each side"),
        ((((4.0, 5.0, -10.0), SIZES[1]), ((-4.0, 5.0, -10.0), SIZES[1])), "one structure is found"),
        ((((7.0, 5.0, -10.0), (4.5, 9.0, 6.0)), ((-7.0, 5.0, -10.0), (4.5, 9.0, 6.0))), "may be one structure"),
    ],
)
def test_without_two_apart_the_side_is_unknown(cascade, structures, said):
    outcome = cascade.read(head(structures, spacing_mm=COARSE))
    assert outcome.ending is Ending.RESULT
    assert labels(outcome) == {"Front": None, "Back": None}
    assert said in " ".join(outcome.findings.warnings)
    (whole,) = outcome.findings.structures
    assert (whole.label, whole.side) == ("Hippocampus", None)
    assert ASYMMETRY not in {m.quantity for m in whole.measurements}


def test_a_crop_outside_the_gates_is_told_and_the_other_is_read(cascade):
    """The left structure is longer than the model takes; its side is proven all the same, and nothing is compared."""
    outcome = cascade.read(head(((LEFT, (6.0, 28.0, 6.0)), (RIGHT, (6.0, 20.0, 6.0))), spacing_mm=COARSE))
    assert outcome.ending is Ending.RESULT
    assert labels(outcome) == {"Front, right": Side.RIGHT, "Back, right": Side.RIGHT}
    (told,) = [text for text in outcome.findings.warnings if "not looked at" in text]
    assert "crop, left: field of view along PA" in told
    assert "needed: 10 to 60 mm" in told
    assert [one.label for one in outcome.findings.structures] == ["Hippocampus, right"]


@pytest.mark.parametrize(
    ("structures", "said"),
    [
        (
            ((LEFT, (6.0, 28.0, 6.0)), (RIGHT, (6.0, 28.0, 6.0))),
            "no crop fits the model: crop, left: field of view along PA",
        ),
        ((), "the step before finds nothing of the structure"),
    ],
)
def test_without_a_crop_the_series_is_refused_with_the_reason(cascade, structures, said):
    outcome = cascade.read(head(structures, spacing_mm=COARSE))
    assert outcome.ending is Ending.REFUSED
    assert said in outcome.reasons[0]
    assert exit_status([outcome]) == 10
    assert not outcome.stored


def test_a_structure_at_the_border_is_read_and_told(cascade):
    place_of = (LEFT[0], LEFT[1], -51.0)
    outcome = cascade.read(head(((place_of, SIZES[0]), (RIGHT, SIZES[1])), spacing_mm=COARSE))
    assert labels(outcome) == BOTH
    assert "left: the structure reaches the border of the images and may be cut off" in outcome.findings.warnings


def test_each_of_the_two_must_be_there_and_trusted(place):
    place.publish(crop_model())
    alone = place.read(policy=RESEARCH)
    assert (alone.ending, exit_status([alone])) == (Ending.NONE, 3)
    assert "no model of family 'localiser' is in the archive" in alone.reasons[0]
    place.publish(localiser(), trusted=False)
    untrusted = place.read(policy=RESEARCH)
    assert (untrusted.ending, exit_status([untrusted])) == (Ending.UNTRUSTED, 5)
    assert "step before = Head localiser 1.0.0" in untrusted.reasons[0]
    assert "residency trust add" in untrusted.reasons[0]
    place.publish(localiser({"identity.version": "1.0.1"}))
    assert place.read(policy=Policy()).ending is Ending.UNTRUSTED
    assert place.read(policy=RESEARCH).ending is Ending.RESULT


def test_a_step_that_fails_its_golden_case_is_untrusted(place):
    """Its card demands more than its graph gives: nothing is cropped by a model that was not admitted."""
    place.publish(crop_model())
    sound = localiser()
    graph = nearest_level_graph((0.0, FRONT, BACK))
    payloads = [replace(p, data=graph) if p.role == "graph" else p for p in sound.payloads]
    place.publish(build_package(sound.card, payloads))
    outcome = place.read()
    assert outcome.ending is Ending.UNTRUSTED
    assert "the golden case of 'Head localiser' gives Dice" in outcome.reasons[0]


def test_a_series_with_thick_slices_is_refused_by_name(cascade):
    thick = head(spacing_mm=(6.5, 2.0, 2.0))
    outcome = cascade.read(thick)
    assert outcome.ending is Ending.NONE
    assert any("voxel spacing along SI = 6.5 mm; needed: 0.5 to 4 mm" in reason for reason in outcome.reasons)


def test_the_command_line_tells_both_choices(cascade, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for index, data in enumerate(mr_series(head(spacing_mm=COARSE), study="command line", series="head")):
        (folder / f"{index}.dcm").write_bytes(data)
    environment = os.environ | {
        "RESIDENCY_HOME": str(cascade.settings.home),
        "RESIDENCY_ARCHIVE": str(cascade.settings.archive),
        "RESIDENCY_THREADS": "1",
        "COLUMNS": "400",
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "residency", "run", str(folder), "--allow-unapproved", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = run("--explain")
    assert "gates of Head localiser 1.0.0" in text
    assert "gates of Parts of the hippocampus 1.0.0" in text
    assert "Hippocampus, left: volume " in text
    assert "Hippocampus, left and right: volume " in text
    assert "Asymmetry index, (L - R) / ((L + R) / 2) 0." in text
    assert "SEG-BEFORE 2.25." in text
    assert "step before, Head localiser 1.0.0: not approved at this site: research use" in text
    (answer,) = json.loads(run("--explain", "--json"))
    (choice,) = answer["considered"]["outcomes"]
    assert (choice["model"], choice["before"]["model"]) == ("Parts of the hippocampus", "Head localiser")
    (outcome,) = answer["outcomes"]
    assert outcome["ending"] == "result, computed before"
    sides = {m["segment"]: m["side"] for m in outcome["measurements"]}
    assert sides["Hippocampus, left"] == "L"
    assert sides["Hippocampus, left and right"] == "both"


def test_real_series_with_thick_slices_fit_neither(cascade, studies):
    """Of two examinations with slices of 6.5 mm none is cropped; each says which demand it does not meet."""
    for folder in studies.values():
        house = replace(cascade.house(), images=LooseFiles(folder))
        (study,) = {row.study_uid for row in house.images.find(Level.STUDY, Query())}
        outcomes = {one.name: one for one in read_study(study, house, RESEARCH, dry=True).outcomes}
        thick = outcomes["T1post"]
        assert thick.ending is Ending.NONE
        assert "voxel spacing along SI = 6.5 mm; needed: 0.5 to 4 mm" in thick.reasons
        assert all(one.ending is Ending.NONE for one in outcomes.values())
