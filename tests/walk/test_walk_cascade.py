"""A cascade from archive to archive: two chosen models, crops with proven sides, one result of both."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.assemble import open_house, open_site
from residency.labels import Side
from residency.models import publish
from residency.package import ModelPackage
from residency.pipeline import Ending, House, Outcome, read_study
from residency.selection import Policy
from residency.settings import Settings
from residency.site import Site
from residency.testing.cascades import crop_model, head, localiser
from residency.testing.phantoms import mr_series
from residency.trust import Role, SigningKey, TrustedKey
from residency.volume import Volume

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
RESEARCH = Policy(allow_unapproved=True)


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

    def house(self) -> House:
        return open_house(self.settings, images=self.archive, models=self.archive)

    def store(self, files: Sequence[bytes]) -> str:
        """Store a series; its study."""
        read = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
        self.archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in zip(read, files, strict=True))
        return str(read[0].StudyInstanceUID)

    def read(self, volume: Volume | None = None, policy: Policy = RESEARCH, **attributes: Any) -> Outcome:
        """What becomes of a head."""
        study = self.store(mr_series(volume or head(), series="head", **attributes))
        outcomes = read_study(study, self.house(), policy).outcomes
        return next(outcome for outcome in outcomes if not outcome.own)

    def objects(self, outcome: Outcome) -> dict[str, bytes]:
        """The stored objects by role."""
        found = {}
        for role, uid in outcome.stored.items():
            (row,) = [r for r in self.archive.find(Level.INSTANCE, Query(sop_uid=uid)) if r.sop_uid == uid]
            (found[role],) = [i.data for i in self.archive.instances(row.series_uid, [uid])]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    settings = Settings(home=tmp_path / "home", archive=str(tmp_path / "archive"), threads=1)
    return Place(FolderArchive(tmp_path / "archive"), open_site(settings), settings)


@pytest.fixture
def cascade(place: Place) -> Place:
    place.publish(localiser())
    place.publish(crop_model())
    return place


def test_both_sides_are_found_in_a_whole_head(cascade):
    outcome = cascade.read()
    assert outcome.ending is Ending.RESULT, outcome.reasons
    print(outcome)
    sides = {segment.label: segment.side for segment in outcome.findings.segments}
    assert sides == {
        "Front, left": Side.LEFT,
        "Back, left": Side.LEFT,
        "Front, right": Side.RIGHT,
        "Back, right": Side.RIGHT,
    }
