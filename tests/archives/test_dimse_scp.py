"""The DIMSE door against a small archive of our own: what it promises where queries go level by level."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from residency.archive import Archive
from residency.archives.dimse import Dimse
from residency.archives.dimse.association import peer_of
from residency.archives.dimse.retrieve import Outcome, failure
from residency.errors import LostError
from residency.settings import ArchiveSettings
from residency.testing.archive import ArchiveContract, data_set, instance, read
from residency.testing.fence import free_port
from residency.testing.misbehaving_scp import Behaviour, running_scp


@pytest.fixture(params=[Behaviour.STRICT, Behaviour.STRICT_AND_SILENT])
def archive(request: pytest.FixtureRequest) -> Iterator[Archive]:
    with running_scp(request.param) as scp:
        archive = Dimse(scp.settings(timeout_s=30.0, retries=2))
        yield archive
        archive.close()


@pytest.mark.slow
class TestRelational(ArchiveContract):
    """Every promise, by one question where that is answered; and an archive that counts no instances."""

    @pytest.fixture
    def archive(self) -> Iterator[Archive]:
        with running_scp() as scp:
            archive = Dimse(scp.settings(timeout_s=30.0, retries=2))
            yield archive
            archive.close()


@pytest.mark.slow
class TestLevelByLevel:
    """What depends on how an archive is asked."""

    test_every_row_satisfies_the_query = ArchiveContract.test_every_row_satisfies_the_query
    test_filters_are_exact = ArchiveContract.test_filters_are_exact
    test_rows_say_where_things_are = ArchiveContract.test_rows_say_where_things_are
    test_gives_some_instances_of_a_series = ArchiveContract.test_gives_some_instances_of_a_series
    test_gives_none_for_what_it_does_not_hold = ArchiveContract.test_gives_none_for_what_it_does_not_hold
    test_holds_nothing_at_first = ArchiveContract.test_holds_nothing_at_first
    test_storing_twice_is_harmless = ArchiveContract.test_storing_twice_is_harmless
    test_what_stood_before_a_conflict_is_stored = ArchiveContract.test_what_stood_before_a_conflict_is_stored
    test_headers_equal_the_data_set_otherwise = ArchiveContract.test_headers_equal_the_data_set_otherwise


@pytest.mark.slow
def test_a_uid_that_lies_elsewhere_is_not_taken_for_stored(archive: Archive) -> None:
    """An archive that wants to be told the series cannot be asked for the UID alone: the loss shows afterwards."""
    first = data_set("1.2.1.1.1", SeriesDescription="first")
    archive.store([instance(first)])
    with pytest.raises(LostError, match=r"1\.2\.1\.1\.1"):
        archive.store([instance(data_set("1.2.1.1.1", series="1.2.1.9"))])
    assert [read(i.data) for i in archive.instances("1.2.1.1")] == [first]


def test_one_by_one_where_lists_are_not_taken() -> None:
    with running_scp(Behaviour.ONE_BY_ONE) as scp:
        archive = Dimse(scp.settings(timeout_s=30.0))
        archive.store([instance(data_set(f"1.2.1.1.{n}")) for n in range(3)])
        assert {i.uid for i in archive.instances("1.2.1.1")} == {f"1.2.1.1.{n}" for n in range(3)}


def test_a_cancelled_query_that_ends_with_a_row_leaves_nothing_behind() -> None:
    """Unread, that row would stand where the next answer belongs, and an unknown series would be an error."""
    with running_scp(Behaviour.ENDS_WITH_A_ROW) as scp:
        scp.content.store(instance(data_set(f"1.2.{n}.1.1", study=f"1.2.{n}", series=f"1.2.{n}.1")) for n in (1, 2))
        archive = Dimse(scp.settings(timeout_s=30.0))
        assert list(archive.headers("1.2.3.4.5")) == []
        assert len(list(archive.headers("1.2.1.1"))) == 1


@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_an_archive_that_names_no_sop_classes_gives_its_images(retrieve: str) -> None:
    """SOP Class UID is an optional key of queries (PS3.4 C.6.1.1.5)."""
    with running_scp(Behaviour.NO_CLASSES, move_port=free_port()) as scp:
        scp.content.store([instance(data_set("1.2.1.1.1"))])
        archive = Dimse(scp.settings(timeout_s=30.0, retrieve=retrieve))
        assert [i.uid for i in archive.instances("1.2.1.1")] == ["1.2.1.1.1"]
        archive.close()


def test_what_takes_long_with_each_image_still_gets_all_by_c_move() -> None:
    """While somebody computes between two images, the archive ends, and that must not be lost."""
    with running_scp(move_port=free_port()) as scp:
        scp.content.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(3))
        archive = Dimse(scp.settings(timeout_s=0.3, retrieve="move"))
        given = archive.instances("1.2.1.1")
        first = next(given)
        time.sleep(1.0)
        assert {first.uid, *(one.uid for one in given)} == {f"1.2.1.1.{n}" for n in range(3)}
        archive.close()


def test_a_move_that_fails_says_what_the_archive_must_know_of_us() -> None:
    """An archive that does not know where to send fails as one does that cannot send the instance."""
    peer = peer_of(ArchiveSettings(url="dimse://127.0.0.1:104/PACS"))
    moved, got = (failure(peer, Outcome(0xC000), ["1.2"], moved=moved) for moved in (True, False))
    assert "must know our 'ae_title' with the address of 'move_host' and 'move_port': 1.2" in str(moved)
    assert "move_host" not in str(got)


@pytest.mark.parametrize(
    ("behaviour", "relational"),
    [(Behaviour.GOOD, True), (Behaviour.STRICT, False), (Behaviour.STRICT_AND_SILENT, False)],
)
def test_what_is_peculiar_to_an_archive_is_tried(behaviour: Behaviour, relational: bool) -> None:
    with running_scp(behaviour) as scp:
        scp.content.store([instance(data_set("1.2.1.1.1"))])
        traits = {what: does for what, does, _ in Dimse(scp.settings(timeout_s=10.0)).traits("1.2.1.1", "1.2.1.1.1")}
    assert traits == {"answers C-ECHO": True, "answers relational queries": relational}


def test_one_association_is_enough_for_what_is_done_meanwhile() -> None:
    """Whoever stores while it fetches cannot wait for itself; a retrieval that is given up gives its place back."""
    with running_scp() as scp:
        archive = Dimse(scp.settings(timeout_s=30.0, associations=1))
        archive.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(3))
        for number, _ in enumerate(archive.instances("1.2.1.1")):
            archive.store([instance(data_set(f"1.2.2.1.{number}", study="1.2.2", series="1.2.2.1"))])
        given_up = archive.instances("1.2.1.1")
        next(given_up)
        given_up.close()  # type: ignore[attr-defined]  # a generator
        assert len(list(archive.headers("1.2.2.1"))) == 3
