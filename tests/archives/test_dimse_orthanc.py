"""The DIMSE door against a real Orthanc: every promise of an archive, over C-GET and over C-MOVE."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from residency.archive import Archive
from residency.archives.dimse import Dimse
from residency.testing.archive import ArchiveContract, data_set, instance
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    """One Orthanc for all tests, without the delays of Nagle's algorithm, which DCMTK takes from the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        try:
            # Its answers are in its DefaultEncoding, Latin 1 unless it is told otherwise; what does not fit is lost.
            with running_orthanc(DefaultEncoding="Utf8") as orthanc:
                yield orthanc
        except NoFenceError as error:
            pytest.skip(str(error))


class TestOverCGet(ArchiveContract):
    """All of it by C-FIND, C-STORE and C-GET."""

    @pytest.fixture
    def archive(self, orthanc: Orthanc) -> Iterator[Archive]:
        """An empty Orthanc."""
        orthanc.clear()
        archive = Dimse(orthanc.by_dimse())
        yield archive
        archive.close()


def test_what_c_get_gives_c_move_gives(orthanc: Orthanc) -> None:
    orthanc.clear()
    getting, moving = Dimse(orthanc.by_dimse()), Dimse(orthanc.by_dimse(retrieve="move"))
    getting.store(instance(data_set(f"1.2.1.1.{n}", SeriesDescription="T1")) for n in range(5))
    given = {i.uid: i.data for i in getting.instances("1.2.1.1")}
    moved = {i.uid: i.data for i in moving.instances("1.2.1.1")}
    moving.close()
    assert len(given) == 5
    assert given == moved


@pytest.mark.slow
class TestOverCMove(ArchiveContract):
    """All of it by C-FIND, C-STORE and C-MOVE to us."""

    @pytest.fixture
    def archive(self, orthanc: Orthanc) -> Iterator[Archive]:
        """An empty Orthanc."""
        orthanc.clear()
        archive = Dimse(orthanc.by_dimse(retrieve="move"))
        yield archive
        archive.close()
