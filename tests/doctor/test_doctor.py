"""The doctor finds out what an archive really does, leaves the same few objects each time, and says what follows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from residency.archive import Archive, Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.archives.memory import MemoryArchive
from residency.assemble import open_archive
from residency.cli import doctor as command
from residency.cli.doctor import _NEEDED
from residency.dicom.dataset import parse, text
from residency.dicom.part10 import encode
from residency.dicom.probe import PROBE_PATIENT_ID, PROBE_SERIES, private_block_of, raw_probe
from residency.doctor import Answer, examine
from residency.errors import RejectedError, UsageError
from residency.settings import Settings
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import running_orthanc

SMALL = 2**20


class Odd(MemoryArchive):
    """An archive that changes, loses or refuses: what it does with an instance is given."""

    def __init__(self, taken: Callable[[Instance], Instance | None]) -> None:
        super().__init__()
        self._taken = taken

    def store(self, instances: Iterable[Instance]) -> None:
        super().store(kept for one in instances if (kept := self._taken(one)) is not None)


class Sender(Archive):
    """The same archive without asking first: it keeps the first content in silence, or replaces it."""

    def __init__(self, archive: MemoryArchive, *, replaces: bool) -> None:
        self._archive = archive
        self._replaces = replaces

    def store(self, instances: Iterable[Instance]) -> None:
        for one in instances:
            if self._replaces:
                self._archive._data.pop(one.uid, None)
            if one.uid not in self._archive._data:
                self._archive.store([one])


def unchanged(instance: Instance) -> Instance:
    return instance


def without_private(instance: Instance) -> Instance:
    ds = parse(instance.data)
    ds.remove_private_tags()
    return Instance(instance.uid, encode(ds).data)


def lost(_instance: Instance) -> None:
    return None


def no_label_maps(instance: Instance) -> Instance:
    if text(parse(instance.data, pixels=False), "SOPClassUID").endswith(".66.7"):
        raise RejectedError("SOP class not supported")
    return instance


def test_an_archive_that_does_everything_needs_nothing():
    checks = examine(MemoryArchive(), large=SMALL)
    assert {check.found for check in checks} == {Answer.YES}
    assert [check.what for check in checks if check.follows] == ["keeps Label Map Segmentations"]
    assert any("you may set 'label_map'" in check.follows for check in checks)


def test_a_second_examination_adds_nothing():
    archive = MemoryArchive()
    examine(archive, large=SMALL)
    first = set(archive.find(Level.INSTANCE, Query()))
    assert {row.patient_id for row in first} == {PROBE_PATIENT_ID}
    assert all(check.found is Answer.YES for check in examine(archive, large=SMALL))
    assert set(archive.find(Level.INSTANCE, Query())) == first


@pytest.mark.parametrize(
    ("taken", "what", "said"),
    [
        (without_private, "keeps Raw Data", "changed"),
        (without_private, "keeps private blocks", "the block is gone"),
        (lost, "keeps images", "does not give back"),
        (lost, "finds instances", "0 row"),
        (no_label_maps, "keeps Label Map", "not supported"),
    ],
)
def test_what_an_archive_does_not_do_is_said_with_what_follows(taken, what, said):
    check = next(c for c in examine(Odd(taken), large=SMALL) if c.what.startswith(what))
    assert check.found is Answer.NO
    assert said in check.detail
    assert check.follows


@pytest.mark.parametrize(
    ("replaces", "answer", "said"), [(False, Answer.YES, "in silence"), (True, Answer.NO, "replaces the first")]
)
def test_which_of_two_contents_stays_is_told(replaces, answer, said):
    archive = MemoryArchive()
    for _ in range(2):
        checks = examine(archive, sender=Sender(archive, replaces=replaces), large=SMALL)
        check = next(c for c in checks if c.what.startswith("keeps the first of two"))
        assert check.found is answer
        assert said in check.detail
        (twice,) = archive.instances(PROBE_SERIES, [raw_probe("twice", b"first.").uid])
        assert twice.data == raw_probe("twice", b"first.").data, "the first must be put back"


def test_another_door_must_give_the_same():
    archive, empty = MemoryArchive(), MemoryArchive()
    same = [c for c in examine(archive, routes=[archive], large=SMALL) if "by route 1" in c.what]
    assert [c.found for c in same] == [Answer.YES]
    other = [c for c in examine(archive, routes=[empty], large=SMALL) if "by route 1" in c.what]
    assert [c.found for c in other] == [Answer.NO]


def test_a_moved_block_is_found_by_its_creator():
    data = raw_probe("small", b"abcd").data
    moved = data.replace(b"\x11\x73\x10\x00LO", b"\x11\x73\x11\x00LO")
    for element in (0x01, 0x0A, 0x10):
        moved = moved.replace(bytes([0x11, 0x73, element, 0x10]), bytes([0x11, 0x73, element, 0x11]))
    block = private_block_of(moved)
    assert block is not None
    assert (block.place, block.vr) == ("(7311,11xx)", "OB")


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "residency", "doctor", "--large", "1", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "RESIDENCY_HOME": str(tmp_path / "home")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


def test_the_command_prints_a_table_and_json(doctor, tmp_path):
    FolderArchive(tmp_path / "archive").close()
    done = doctor("--archive", str(tmp_path / "archive"))
    assert done.returncode == 0, done.stderr
    assert "yes       keeps Segmentations" in done.stdout
    assert "images, models and results of every form can live here" in done.stdout
    answered = json.loads(doctor("--archive", str(tmp_path / "archive"), "--json").stdout)
    assert {check["found"] for check in answered["checks"]} == {"yes"}


def test_each_archive_of_the_roles_is_tried_for_what_it_is_used_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As the guide for a PACS begins: no 'archive', a table for each role."""
    for name in ("one", "two"):
        FolderArchive(tmp_path / name).close()
    secret = tmp_path / "secret"
    secret.write_text("pssst")
    secret.chmod(0o640)
    (tmp_path / "residency.toml").write_text(
        'images = "pacs"\nmodels = "library"\nresults = "pacs"\n'
        f'[archives.pacs]\nurl = "{tmp_path}/one"\ntoken_file = "{secret}"\n'
        f'[archives.library]\nurl = "{tmp_path}/two"\n'
    )
    monkeypatch.setenv("RESIDENCY_CONFIG", str(tmp_path / "residency.toml"))
    app = typer.Typer()
    command.register(app)
    done = CliRunner().invoke(app, ["--large", "1"])
    assert done.exit_code == 0, done.output
    assert "images and results of every form can live here" in done.stdout
    assert "\nmodels can live here" in done.stdout
    assert "no        token_file is its owner's alone: mode 0640" in done.stdout
    assert f"chmod 600 {secret}" in done.stdout
    with pytest.raises(UsageError, match="--archive"):
        CliRunner().invoke(app, ["--route", "pacs"], catch_exceptions=False)
    several = json.loads(CliRunner().invoke(app, ["--large", "1", "--json"]).stdout)
    assert [one["archive"] for one in several] == [(tmp_path / name).as_uri() for name in ("one", "two")]


@pytest.mark.parametrize(
    ("what", "roles", "said"),
    [
        (
            "keeps Label Map Segmentations",
            ["images", "results"],
            "images and results can live here; not kept: Label Map",
        ),
        ("keeps Raw Data", ["images", "models", "results"], "models cannot live here"),
        ("keeps Raw Data", ["images"], "images can live here"),
        ("", ["images", "models", "results"], "images, models and results of every form can live here"),
    ],
)
def test_the_last_word_says_what_can_live_in_an_archive(what: str, roles: list[str], said: str):
    checks = [
        replace(check, found=Answer.NO) if check.what == what else check
        for check in examine(MemoryArchive(), large=SMALL)
    ]
    refused = {command._NEEDED[check.what] for check in checks if check.what == what and what in command._NEEDED}
    assert command._verdict(roles, refused, checks).startswith(said)


def test_an_archive_that_is_not_there_is_said_and_not_made(doctor, tmp_path):
    """A name that was mistyped is a path: a folder made there would be praised in place of the archive."""
    done = doctor("--archive", str(tmp_path / "pasc"))
    assert done.returncode == 2
    assert "is no archive" in done.stderr
    assert not (tmp_path / "pasc").exists()


def test_what_decides_the_exit_status_is_really_tried():
    """A name that no check bears would never be missed."""
    assert set(_NEEDED) <= {check.what for check in examine(MemoryArchive(), large=SMALL)}


def test_an_archive_that_does_not_answer_is_one_line(doctor):
    done = doctor("--archive", "http://127.0.0.1:9/dicom-web")
    assert done.returncode == 13
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_real_archive_by_both_doors():
    """What Orthanc does by default: all but label maps by association, and of two contents it keeps the first."""
    try:
        with running_orthanc() as orthanc:
            described = {"web": orthanc.by_web(), "dimse": orthanc.by_dimse()}
            settings = Settings(archives=described)
            for name, route, refused, peculiar in (
                ("dimse", "web", {"keeps Label Map Segmentations"}, ["answers C-ECHO", "answers relational queries"]),
                ("web", "dimse", {"gives a range of bytes"}, ["packs bulk in gzip where it is allowed to"]),
            ):
                with ExitStack() as held:
                    archive, sender, other = (
                        held.enter_context(closing(open_archive(door, settings, trusting=trusting)))
                        for door, trusting in ((name, False), (name, True), (route, False))
                    )
                    checks = examine(archive, sender=sender, routes=[other], large=SMALL)
                assert {check.what for check in checks if check.found is not Answer.YES} == refused
                assert any("in silence" in check.detail for check in checks)
                assert {check.what for check in checks}.issuperset(peculiar)
    except NoFenceError as error:
        pytest.skip(str(error))


class Silent(MemoryArchive):
    """An archive that keeps everything and then gives one answer no more."""

    def traits(self, series_uid: str, sop_uid: str) -> Iterator[tuple[str, bool, str]]:
        yield "answers", True, ""
        raise RejectedError(f"does not give {sop_uid} of {series_uid}")


def test_a_trait_that_cannot_be_tried_is_an_answer():
    checks = examine(Silent(), large=SMALL)
    assert [check.found for check in checks[-2:]] == [Answer.YES, Answer.UNKNOWN]
    assert "does not give" in checks[-1].detail
