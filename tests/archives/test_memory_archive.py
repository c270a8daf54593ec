"""The archive in memory keeps the promises of every archive."""

from collections.abc import Iterator

import pytest

from residency.archives.memory import MemoryArchive
from residency.testing.archive import ArchiveContract


class TestMemory(ArchiveContract):
    @pytest.fixture
    def archive(self) -> Iterator[MemoryArchive]:
        archive = MemoryArchive()
        yield archive
        archive.close()
