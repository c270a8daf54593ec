"""The DIMSE door against a real Orthanc: every promise of an archive, over C-GET and over C-MOVE."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from residency.archive import Archive
from residency.archives.dimse import Dimse
from residency.testing.archive import ArchiveContract
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    """One Orthanc for all tests, without the delays of Nagle's algorithm, which DCMTK takes from the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        try:
            running = running_orthanc(DefaultEncoding="Utf8")  # in which it answers C-FIND; Latin1 loses text
            started = running.__enter__()
        except NoFenceError as error:
            pytest.skip(str(error))
        try:
            yield started
        finally:
            running.__exit__(None, None, None)


class TestOverCGet(ArchiveContract):
    """All of it by C-FIND, C-STORE and C-GET."""

    @pytest.fixture
    def archive(self, orthanc: Orthanc) -> Iterator[Archive]:
        """An empty Orthanc."""
        orthanc.clear()
        archive = Dimse(orthanc.by_dimse())
        yield archive
        archive.close()


class TestOverCMove(ArchiveContract):
    """All of it by C-FIND, C-STORE and C-MOVE to us."""

    @pytest.fixture
    def archive(self, orthanc: Orthanc) -> Iterator[Archive]:
        """An empty Orthanc."""
        orthanc.clear()
        archive = Dimse(orthanc.by_dimse(retrieve="move"))
        yield archive
        archive.close()
