"""DICOMweb keeps the promises of every archive, against a real Orthanc with authentication on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from residency.archives.dicomweb import DicomWeb
from residency.testing.archive import ArchiveContract
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    try:
        # Its answers are in its DefaultEncoding, Latin 1 unless it is told otherwise; what does not fit is left out.
        with running_orthanc(DefaultEncoding="Utf8") as orthanc:
            yield orthanc
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[DicomWeb]:
    orthanc.clear()
    archive = DicomWeb(orthanc.by_web())
    yield archive
    archive.close()


class TestDicomWeb(ArchiveContract):
    @pytest.fixture
    def archive(self, archive: DicomWeb) -> DicomWeb:
        return archive
