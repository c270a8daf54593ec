"""Images as they come, walked from archive to result: equal findings in another form, and an explained end for each."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom

from residency.archive import Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.dicom.labels import read_labels
from residency.errors import ArchiveError, InputError
from residency.labels import Side
from residency.pipeline import Ending, Outcome, read_study
from residency.selection import Policy
from residency.testing.awkward import cases
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop

RESEARCH = Policy(allow_unapproved=True)


def _crop(study: str) -> list[bytes]:
    said = {
        "SeriesDescription": "HippoCrop",
        "BodyPartExamined": None,
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
    }
    return mr_series(hippocampus_crop(Side.LEFT), study=study, series="crop", **said)


def _header(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data), stop_before_pixels=True)


def _walked(ward, files: list[bytes]) -> Outcome:
    headers = [_header(data) for data in files]
    ward.archive.store(Instance(str(h.SOPInstanceUID), data) for h, data in zip(headers, files, strict=True))
    (outcome,) = read_study(str(headers[0].StudyInstanceUID), ward.house(), RESEARCH).outcomes
    return outcome


def test_a_multi_frame_series_gives_the_findings_of_its_single_frames(ward) -> None:
    """Frames come in reverse here: a reader that trusts their index measures the organ upside down."""
    ward.approve_rules()
    single = _walked(ward, _crop("single"))
    multi = _walked(ward, [enhanced(_crop("multi")[::-1])])
    assert (single.ending, multi.ending) == (Ending.RESULT, Ending.RESULT)
    assert single.findings is not None
    assert multi.findings is not None
    assert [s.label for s in multi.findings.segments] == [s.label for s in single.findings.segments]
    for one, other in zip(multi.findings.segments, single.findings.segments, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert [m.value for m in multi.findings.measurements] == [m.value for m in single.findings.measurements]
    uid = multi.stored["seg"]
    (row,) = ward.archive.find(Level.INSTANCE, Query(sop_uid=uid))
    (instance,) = ward.archive.instances(row.series_uid, [uid])
    made = pydicom.dcmread(BytesIO(instance.data))
    slices = hippocampus_crop(Side.LEFT).grid.shape[0]
    for frame in made.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        height = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        k = round((height - multi.findings.grid.to_lps((0, 0, 0))[2]) / multi.findings.grid.spacing_mm[0])
        assert source.ReferencedFrameNumber == slices - k


def test_every_awkward_series_ends_with_its_reason(ward) -> None:
    """Up to the choice: what is wrong with a series is what the walk says of it, and never a traceback."""
    house = ward.house()
    walked = 0
    for case, make in cases().items():
        files, images = make(), MemoryArchive()
        try:
            images.store(Instance(str(_header(data).SOPInstanceUID), data) for data in files)
        except ArchiveError:  # of emptied UIDs, say: the archive refuses them already
            continue
        for study in {row.study_uid for row in images.find(Level.STUDY, Query())}:
            for outcome in read_study(study, replace(house, images=images), RESEARCH, dry=True).outcomes:
                problem = _problem([i.data for i in images.instances(outcome.series_uid)])
                walked += 1
                assert outcome.ending in (Ending.NONE, Ending.REFUSED), case
                assert outcome.reasons, case
                assert problem is None or any(problem in reason for reason in outcome.reasons), (case, outcome.reasons)
    assert walked > 80


def _problem(files: list[bytes]) -> str | None:
    try:
        return read_labels(files).problem
    except InputError as error:
        return str(error)
