"""Cases straight from an archive: found by a query, outlined by other makers' Segmentations, nobody's ID in them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from residency.archive import Instance
from residency.archives.memory import MemoryArchive
from residency.datasets import digest, persons, read_case
from residency.datasets.archived import ArchiveQuery, read_archive
from residency.dicom.result import ResultIdentity
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.errors import TrainingError
from residency.findings import Findings, Mask
from residency.testing.phantoms import ct_series, mr_series
from residency.volume import Volume, regular_grid

KEY = b"sixteen bytes or more"
CLASSES = ("background", "hippocampus")
QUERY = ArchiveQuery("MR", {"hippocampus": ("SCT:5366008",)})
GRID = regular_grid((5, 8, 9), (2.0, 1.0, 1.0))

Outline = Callable[..., bytes]


def _uid(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)


def _put(archive: MemoryArchive, *files: bytes) -> None:
    archive.store(Instance(_uid(data), data) for data in files)


def _series(person: str, number: int, **more: object) -> list[bytes]:
    values = np.random.default_rng(number).integers(0, 900, GRID.shape).astype(np.float32)
    return mr_series(Volume(values, GRID), study=f"study {number}", PatientID=person, PatientName="Marked^Name", **more)


def _mask(number: int) -> Mask:
    mask = np.zeros(GRID.shape, np.bool_)
    mask[1:4, 2 : 4 + number % 3, 3:6] = True
    return mask


@pytest.fixture
def outline(findings_on: Callable[..., Findings], identity_of: Callable[[SourceSeries], ResultIdentity]) -> Outline:
    """A Segmentation of a series; by another maker, unless `ours`."""

    def make(files: list[bytes], *masks: Mask, ours: bool = False, **changes: object) -> bytes:
        source = open_series(files)
        made = segmentation(findings_on(source, *masks), source, identity_of(source)).data
        if ours:
            return made
        dataset = pydicom.dcmread(io.BytesIO(made))
        del dataset.ReferencedInstanceSequence
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        stream = io.BytesIO()
        dataset.save_as(stream)
        return stream.getvalue()

    return make


@pytest.fixture
def archive(outline: Outline) -> MemoryArchive:
    """Four outlined series of three people, one that nobody has outlined, and a CT."""
    made = MemoryArchive()
    for number, person in enumerate(("MARKED-A", "MARKED-A", "MARKED-B", "MARKED-C")):
        files = _series(person, number)
        _put(made, *files, outline(files, _mask(number)))
    _put(made, *_series("MARKED-D", 9), *ct_series(Volume(np.zeros(GRID.shape, np.float32), GRID), study="ct"))
    return made


def test_outlined_series_are_found_by_person(archive: MemoryArchive) -> None:
    found = read_archive(archive, QUERY, CLASSES, KEY)
    assert len(found.cases) == 4
    assert len(persons(found.cases)) == 3
    assert found.notes == ("4 cases of 3 persons", "1 left out: series without a Segmentation that has the segments")
    read = [read_case(case, 2) for case in found.cases]
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 900, GRID.shape)
        (labels,) = [labels for volume, labels in read if np.array_equal(volume.array, values)]
        assert np.array_equal(labels == 1, _mask(number))


def test_nobodys_identifier_is_in_a_case_and_names_are_of_the_key(archive: MemoryArchive) -> None:
    found = read_archive(archive, QUERY, CLASSES, KEY)
    assert "MARKED" not in repr(found).upper()
    again = read_archive(archive, QUERY, CLASSES, KEY)
    assert found == again
    assert digest(found.cases) == digest(again.cases)
    other = read_archive(archive, QUERY, CLASSES, KEY + b"!")
    assert not set(persons(found.cases)) & set(persons(other.cases))


def test_segments_may_be_named_by_number_and_several_be_one_class(outline: Outline) -> None:
    archive, files = MemoryArchive(), _series("A", 1)
    first, second = _mask(0), np.zeros(GRID.shape, np.bool_)
    second[0] = True
    _put(archive, *files, outline(files, first, second))
    one = read_archive(archive, replace(QUERY, segments={"hippocampus": (2,)}), CLASSES, KEY)
    assert np.array_equal(read_case(one.cases[0], 2)[1] == 1, second)
    both = read_archive(archive, QUERY, CLASSES, KEY)
    assert np.array_equal(read_case(both.cases[0], 2)[1] == 1, first | second)
    apart = replace(QUERY, segments={"a": (1,), "b": (2,)})
    labels = read_case(read_archive(archive, apart, ("background", "a", "b"), KEY).cases[0], 3)[1]
    assert np.array_equal(labels, np.where(first, 1, np.where(second, 2, 0)))
    assert digest(one.cases) != digest(both.cases)


def test_classes_that_overlap_are_refused(outline: Outline) -> None:
    archive, files = MemoryArchive(), _series("A", 1)
    _put(archive, *files, outline(files, _mask(0), _mask(1)))
    apart = replace(QUERY, segments={"a": (1,), "b": (2,)})
    (case,) = read_archive(archive, apart, ("background", "a", "b"), KEY).cases
    with pytest.raises(TrainingError, match="segment 2 overlaps one of another class"):
        read_case(case, 3)


def test_results_of_our_own_networks_teach_nobody(outline: Outline) -> None:
    archive, files = MemoryArchive(), _series("A", 1)
    _put(archive, *files, outline(files, _mask(0), ours=True))
    with pytest.raises(TrainingError, match="no case in the archive; 1 left out: Segmentations that a network"):
        read_archive(archive, QUERY, CLASSES, KEY)


def test_two_segmentations_of_one_series_are_told_apart_by_their_description(outline: Outline) -> None:
    archive, files = MemoryArchive(), _series("A", 1)
    for number, reader in enumerate(("first reader", "second reader")):
        changes = {
            "SeriesDescription": reader,
            "SOPInstanceUID": f"1.2.9.{number}",
            "SeriesInstanceUID": f"1.2.8.{number}",
        }
        _put(archive, outline(files, _mask(number), **changes))
    _put(archive, *files)
    with pytest.raises(TrainingError, match=r"has 2 Segmentations with such segments; say with 'reference'"):
        read_archive(archive, QUERY, CLASSES, KEY)
    (case,) = read_archive(archive, replace(QUERY, reference="SECOND"), CLASSES, KEY).cases
    assert np.array_equal(read_case(case, 2)[1] == 1, _mask(1))


@pytest.mark.parametrize(
    ("query", "classes", "key", "said"),
    [
        (QUERY, CLASSES, b"short", "has 5 bytes; at least 16"),
        (QUERY, ("background", "liver"), KEY, "besides the background are liver"),
        (replace(QUERY, segments={"hippocampus": ("liver",)}), CLASSES, KEY, "SCT:10200004, not 'liver'"),
        (replace(QUERY, attributes={"PatientName": "x"}), CLASSES, KEY, "'PatientName' cannot be asked for"),
        (replace(QUERY, modality="PT"), CLASSES, KEY, "no series matches"),
        (replace(QUERY, description="no such"), CLASSES, KEY, "no series matches"),
        (
            replace(QUERY, attributes={"Manufacturer": "x"}),
            CLASSES,
            KEY,
            "4 left out: series whose Manufacturer is not",
        ),
        (replace(QUERY, weighting="FLAIR"), CLASSES, KEY, "4 left out: series that are not FLAIR"),
        (
            replace(QUERY, segments={"a": (1,), "b": ("SCT:5366008",)}),
            ("background", "a", "b"),
            KEY,
            "segment 1 stands for two classes",
        ),
    ],
)
def test_a_query_that_means_nothing_is_refused(
    archive: MemoryArchive, query: ArchiveQuery, classes: tuple[str, ...], key: bytes, said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        read_archive(archive, query, classes, key)


def test_a_series_of_nobody_is_refused(outline: Outline) -> None:
    archive, files = MemoryArchive(), _series("", 1)
    _put(archive, *files, outline(files, _mask(0)))
    with pytest.raises(TrainingError, match="has no Patient ID"):
        read_archive(archive, QUERY, CLASSES, KEY)


def test_a_series_that_grew_since_is_noticed(archive: MemoryArchive) -> None:
    cases = read_archive(archive, QUERY, CLASSES, KEY).cases
    new = pydicom.dcmread(io.BytesIO(_series("MARKED-A", 0)[0]))
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    stream = io.BytesIO()
    new.save_as(stream)
    _put(archive, stream.getvalue())
    with pytest.raises(TrainingError, match="had 5 instances when cases were gathered, and now has 6"):
        [read_case(case, 2) for case in cases]
