"""What every archive promises, as tests. Subclass `ArchiveContract` and supply an empty archive as a fixture."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from itertools import permutations, product

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RawDataStorage,
    SegmentationStorage,
)

from residency.archive import Archive, Entry, Instance, Level, Query
from residency.errors import ArchiveError, ConflictError

MIB = 2**20


def data_set(uid: str, *, study: str = "1.2.1", series: str = "1.2.1.1", **values: object) -> Dataset:
    """A small MR image with 4 x 4 pixels; `values` add elements by keyword or replace them, None removes one."""
    image = Dataset()
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = uid
    image.StudyInstanceUID = study
    image.SeriesInstanceUID = series
    image.PatientID = "P1"
    image.Modality = "MR"
    image.Rows = image.Columns = 4
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelSpacing = [1, 1]
    image.add_new("PixelData", "OW", bytes(range(32)))
    for keyword, value in values.items():
        if value is None:
            del image[keyword]
        else:
            setattr(image, keyword, value)
    return image


def instance(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian, implementation: str = "CONTRACT") -> Instance:
    """The data set as it travels, in a transfer syntax."""
    dataset = deepcopy(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationVersionName = implementation
    if "PixelData" in dataset and syntax == ExplicitVRBigEndian:
        dataset["PixelData"].value = _swapped(dataset.PixelData)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return Instance(str(dataset.SOPInstanceUID), buffer.getvalue())


def read(data: bytes) -> Dataset:
    """The data set out of a file."""
    return pydicom.dcmread(io.BytesIO(data))


def _changed(dataset: Dataset, keyword: str, value: object) -> Dataset:
    other = deepcopy(dataset)
    setattr(other, keyword, value)
    return other


def _swapped(words: bytes) -> bytes:
    return b"".join(words[i : i + 2][::-1] for i in range(0, len(words), 2))


def _some(archive: Archive) -> None:
    """Two patients, three studies, four series, seven instances."""
    seg = {"SOPClassUID": SegmentationStorage, "Modality": "SEG", "ContentLabel": "HIPPOCAMPUS"}
    raw = {"SOPClassUID": RawDataStorage, "Modality": "OT", "PatientID": "MODELS", "PixelData": None}
    archive.store(
        [instance(data_set(f"1.2.1.1.{n}", SeriesDescription="T1", StudyDescription="Head")) for n in (1, 2, 3)]
        + [instance(data_set("1.2.1.2.1", series="1.2.1.2", StudyDescription="Head", **seg))]
        + [instance(data_set("1.2.2.1.1", study="1.2.2", series="1.2.2.1"))]
        + [instance(data_set(f"1.2.3.1.{n}", study="1.2.3", series="1.2.3.1", **raw)) for n in (1, 2)]
    )


def _instances(archive: Archive, series_uid: str, sop_uids: list[str] | None = None) -> dict[str, Dataset]:
    return {i.uid: read(i.data) for i in archive.instances(series_uid, sop_uids)}


class ArchiveContract:
    """What every Archive promises. Subclass it and supply the `archive` fixture: an empty archive."""

    @pytest.fixture
    def archive(self) -> Iterator[Archive]:
        """An empty archive."""
        raise NotImplementedError("supply the fixture 'archive'")

    # Storing and giving back

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    def test_gives_back_what_was_stored(self, archive: Archive, syntax: UID) -> None:
        image = data_set("1.2.1.1.1", SeriesDescription="T1")
        archive.store([instance(image, syntax)])
        assert _instances(archive, "1.2.1.1") == {"1.2.1.1.1": image}

    def test_gives_back_private_and_nested_values(self, archive: Archive) -> None:
        """Model objects live in a private block; references to source images live in nested sequences."""
        image = data_set("1.2.1.1.1")
        block = image.private_block(0x0071, "RESIDENCY TEST 1", create=True)
        block.add_new(0x01, "OB", bytes(range(256)))
        block.add_new(0x02, "UT", "\u00e4" * 4000)
        source = Dataset()
        source.ReferencedSOPInstanceUID = "1.2.9"
        study = Dataset()
        study.ReferencedInstanceSequence = Items([source])
        image.ReferencedStudySequence = Items([study])
        archive.store([instance(image)])
        assert _instances(archive, "1.2.1.1") == {"1.2.1.1.1": image}

    def test_gives_some_instances_of_a_series(self, archive: Archive) -> None:
        _some(archive)
        assert set(_instances(archive, "1.2.1.1", ["1.2.1.1.2", "1.2.1.1.3"])) == {"1.2.1.1.2", "1.2.1.1.3"}

    def test_gives_none_for_what_it_does_not_hold(self, archive: Archive) -> None:
        _some(archive)
        assert list(archive.instances("1.2.99")) == []
        assert list(archive.headers("1.2.99")) == []
        assert list(archive.instances("1.2.1.1", ["1.2.99"])) == []
        assert list(archive.headers("1.2.1.1", ["1.2.2.1.1"])) == [], "an instance of another series"
        assert list(archive.instances("1.2.1.1", [])) == []
        assert list(archive.find(Level.STUDY, Query(study_uid="1.2.99"))) == []

    def test_holds_nothing_at_first(self, archive: Archive) -> None:
        for level in Level:
            assert list(archive.find(level, Query())) == []

    def test_storing_nothing_is_harmless(self, archive: Archive) -> None:
        archive.store([])
        assert list(archive.find(Level.INSTANCE, Query())) == []

    def test_takes_a_big_instance(self, archive: Archive) -> None:
        """A long multi-frame image or a part of a network is many megabytes."""
        image = data_set("1.2.1.1.1", Rows=4096, Columns=4096)
        image.PixelData = bytes(range(256)) * (2 * 4096 * 4096 // 256)
        archive.store([instance(image)])
        assert _instances(archive, "1.2.1.1")["1.2.1.1.1"].PixelData == image.PixelData

    def test_takes_more_instances_than_it_commits_at_once(self, archive: Archive) -> None:
        archive.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(150))
        assert len(_instances(archive, "1.2.1.1")) == 150

    def test_order_of_storing_does_not_matter(self, archive: Archive) -> None:
        for number, order in enumerate(permutations((1, 2, 3))):
            series = f"1.2.7.{number}"
            archive.store(instance(data_set(f"{series}.{n}", series=series)) for n in order)
            assert set(_instances(archive, series)) == {f"{series}.{n}" for n in order}

    # Storing twice

    def test_storing_twice_is_harmless(self, archive: Archive) -> None:
        """A job that died after storing runs again and stores the same objects."""
        one = instance(data_set("1.2.1.1.1"))
        archive.store([one, one])
        archive.store([one])
        assert len(list(archive.find(Level.INSTANCE, Query()))) == 1

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_an_equal_data_set_may_be_written_otherwise(self, archive: Archive, syntax: UID) -> None:
        """Archives rewrite the file meta group and the encoding; the content is the same."""
        image = data_set("1.2.1.1.1", SeriesDescription="odd", ImageType=["DERIVED", "SECONDARY"])
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "5366008", "SCT", "Hippocampus"
        image.AnatomicRegionSequence = Items([item])
        archive.store([instance(image)])
        archive.store([instance(image, syntax, implementation="OTHER")])
        assert _instances(archive, "1.2.1.1") == {"1.2.1.1.1": image}

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("SeriesDescription", "second"),
            ("PatientID", "P2"),
            ("SeriesInstanceUID", "1.2.1.9"),
            ("PixelData", bytes(32)),
            ("Rows", 0x2004),
            ("ReferencedStudySequence", Items([Dataset()])),
        ],
    )
    def test_never_overwrites_a_uid(self, archive: Archive, keyword: str, value: object) -> None:
        first = data_set("1.2.1.1.1", SeriesDescription="first")
        archive.store([instance(first)])
        with pytest.raises(ConflictError, match=r"1\.2\.1\.1\.1"):
            archive.store([instance(_changed(first, keyword, value))])
        assert _instances(archive, "1.2.1.1") == {"1.2.1.1.1": first}
        assert [e.sop_uid for e in archive.find(Level.INSTANCE, Query())] == ["1.2.1.1.1"]

    def test_what_stood_before_a_conflict_is_stored(self, archive: Archive) -> None:
        archive.store([instance(data_set("1.2.1.1.2"))])
        with pytest.raises(ConflictError):
            archive.store([instance(data_set("1.2.1.1.1")), instance(data_set("1.2.1.1.2", Rows=5))])
        assert set(_instances(archive, "1.2.1.1")) == {"1.2.1.1.1", "1.2.1.1.2"}

    # Refusing

    @pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
    def test_refuses_what_belongs_nowhere(self, archive: Archive, keyword: str) -> None:
        image = data_set("1.2.1.1.1")
        whole = instance(image)
        damaged = whole.data.replace(getattr(image, keyword).encode(), b"?" * len(getattr(image, keyword)))
        with pytest.raises(ArchiveError):
            archive.store([replace(whole, data=damaged)])
        assert list(archive.find(Level.INSTANCE, Query())) == []

    def test_refuses_what_is_no_dicom(self, archive: Archive) -> None:
        for data in (b"", b"DICM", b"\0" * 4096, bytes(128) + b"DICM", b"\x89PNG" + bytes(4096)):
            with pytest.raises(ArchiveError, match=r"1\.2\.3"):
                archive.store([Instance("1.2.3", data)])
        assert list(archive.find(Level.INSTANCE, Query())) == []

    def test_refuses_what_was_cut_short(self, archive: Archive) -> None:
        """A transfer that breaks off must not leave half an image that looks whole."""
        whole = instance(data_set("1.2.1.1.1")).data
        pixels = len(whole) - 32 - 12
        for length in (0, 100, 131, 132, 200, 300, *range(pixels + 1, len(whole))):
            with pytest.raises(ArchiveError):
                archive.store([Instance("1.2.1.1.1", whole[:length])])
        assert list(archive.find(Level.INSTANCE, Query())) == []

    def test_refuses_another_uid_than_announced(self, archive: Archive) -> None:
        with pytest.raises(ArchiveError, match=r"1\.2\.1\.1\.2"):
            archive.store([replace(instance(data_set("1.2.1.1.1")), uid="1.2.1.1.2")])
        assert list(archive.find(Level.INSTANCE, Query())) == []

    def test_refusals_name_no_patient(self, archive: Archive) -> None:
        image = data_set("1.2.1.1.1", PatientID="MARKED-ID", PatientName="MARKED^NAME")
        archive.store([instance(image)])
        refused = [instance(data_set("1.2.1.1.1", PatientID="MARKED-ID", PatientName="MARKED^OTHER"))]
        refused += [replace(instance(image), uid="MARKED^NAME"), replace(instance(image), data=b"MARKED")]
        for one in refused:
            with pytest.raises(ArchiveError) as error:
                archive.store([one])
            assert "MARKED" not in str(error.value)

    # Headers

    def test_headers_leave_out_pixels_and_large_values(self, archive: Archive) -> None:
        """Looking through a thousand models and a thousand slices must not move their payloads."""
        image = data_set("1.2.1.1.1", SeriesDescription="T1")
        block = image.private_block(0x0071, "RESIDENCY TEST 1", create=True)
        block.add_new(0x01, "OB", bytes(MIB + 2))
        block.add_new(0x02, "UT", "manifest")
        waveform, small = Dataset(), Dataset()
        waveform.WaveformData, waveform.NumberOfWaveformChannels = bytes(MIB + 2), 3
        waveform["WaveformData"].VR = "OB"
        small.NumberOfWaveformChannels = 5
        image.WaveformSequence = Items([waveform, small])
        archive.store([instance(image), instance(data_set("1.2.1.1.2"), ImplicitVRLittleEndian)])

        headers = {h.uid: h.data for h in archive.headers("1.2.1.1")}
        assert set(headers) == {"1.2.1.1.1", "1.2.1.1.2"}
        assert max(map(len, headers.values())) < 4096
        header = read(headers["1.2.1.1.1"])
        assert "PixelData" not in header
        assert header.Rows == 4
        assert header.SeriesDescription == "T1"
        assert header.private_block(0x0071, "RESIDENCY TEST 1")[0x02].value == "manifest"
        assert "WaveformData" not in header.WaveformSequence[0]
        assert [item.NumberOfWaveformChannels for item in header.WaveformSequence] == [3, 5]

    def test_headers_equal_the_data_set_otherwise(self, archive: Archive) -> None:
        image = data_set("1.2.1.1.1", SeriesDescription="T1", ImageType=["ORIGINAL", "PRIMARY"])
        archive.store([instance(image)])
        (header,) = archive.headers("1.2.1.1", ["1.2.1.1.1"])
        del image.PixelData
        assert read(header.data) == image

    # Finding

    def test_rows_say_where_things_are(self, archive: Archive) -> None:
        _some(archive)
        studies = {e.study_uid: e for e in archive.find(Level.STUDY, Query())}
        assert studies["1.2.1"] == Entry("P1", "1.2.1", description="Head", instances=4)
        series = {e.series_uid: e for e in archive.find(Level.SERIES, Query())}
        assert series["1.2.1.1"] == Entry("P1", "1.2.1", "1.2.1.1", modality="MR", description="T1", instances=3)
        rows = {e.sop_uid: e for e in archive.find(Level.INSTANCE, Query())}
        assert len(rows) == 7
        assert rows["1.2.1.2.1"] == Entry(
            "P1", "1.2.1", "1.2.1.2", "1.2.1.2.1", SegmentationStorage, "SEG", "", "HIPPOCAMPUS", 1
        )

    @pytest.mark.parametrize("level", list(Level))
    def test_every_row_satisfies_the_query(self, archive: Archive, level: Level) -> None:
        """Every combination of filters, held against a filter written down here."""
        _some(archive)
        everything = list(archive.find(Level.INSTANCE, Query()))
        values = {
            "patient_id": (None, "P1", "MODELS"),
            "study_uid": (None, "1.2.1"),
            "series_uid": (None, "1.2.1.2"),
            "sop_uid": (None, "1.2.1.1.2"),
            "sop_class": (None, SegmentationStorage),
            "modality": (None, "MR"),
            "content_label": (None, "HIPPOCAMPUS"),
        }
        fields = {Level.STUDY: ("study_uid",), Level.SERIES: ("study_uid", "series_uid"), Level.INSTANCE: ("sop_uid",)}
        for chosen in product(*values.values()):
            query = Query(**dict(zip(values, chosen, strict=True)))
            fitting = [e for e in everything if all(v is None or getattr(e, k) == v for k, v in vars(query).items())]
            expected = {tuple(getattr(e, f) for f in fields[level]) for e in fitting}
            found = [tuple(getattr(e, f) for f in fields[level]) for e in archive.find(level, query)]
            assert sorted(found) == sorted(expected), query

    def test_filters_are_exact(self, archive: Archive) -> None:
        """Wildcards of DICOM queries (PS3.4 C.2.2.2.4) must not widen an exact question."""
        _some(archive)
        archive.store([instance(data_set("1.2.5.1.1", study="1.2.5", series="1.2.5.1", PatientID="P?"))])
        for patient in ("P*", "*", "p1", "P", "P1\\MODELS", "'; DROP TABLE instances; --", "%", ""):
            assert list(archive.find(Level.STUDY, Query(patient_id=patient))) == []
        assert [e.study_uid for e in archive.find(Level.STUDY, Query(patient_id="P?"))] == ["1.2.5"]

    @pytest.mark.parametrize(
        ("character_set", "text"),
        [
            ("ISO_IR 192", "海马 · Hippokampus ä € 😀"),
            ("ISO_IR 100", "Schädel"),
            ("ISO_IR 144", "Гиппокамп"),
            ("GB18030", "海马体"),
            (["", "ISO 2022 IR 87"], "海馬"),
        ],
    )
    def test_descriptions_keep_their_characters(
        self, archive: Archive, character_set: str | list[str], text: str
    ) -> None:
        image = data_set("1.2.1.1.1", SpecificCharacterSet=character_set, SeriesDescription=text)
        archive.store([instance(image)])
        (entry,) = archive.find(Level.SERIES, Query())
        assert entry.description == text

    def test_wrong_characters_do_not_stop_it(self, archive: Archive) -> None:
        """A description that contradicts its character set is common; the image is still wanted."""
        image = data_set("1.2.1.1.1", SpecificCharacterSet="ISO_IR 192", SeriesDescription="Sch__del")
        good = instance(image)
        archive.store([replace(good, data=good.data.replace(b"Sch__del", b"Sch\xe4\xe4del"))])
        (entry,) = archive.find(Level.SERIES, Query())
        assert entry.description.startswith("Sch")
        assert [i.uid for i in archive.instances("1.2.1.1")] == ["1.2.1.1.1"]

    # Many at once

    def test_many_may_store_at_once(self, archive: Archive) -> None:
        """Four writers with overlapping instances and a reader: all is stored once, and no reader sees half."""
        wanted = {f"1.2.1.1.{n}": data_set(f"1.2.1.1.{n}") for n in range(40)}
        travelling = [instance(d) for d in wanted.values()]
        done = threading.Event()

        def read_along() -> int:
            rounds = 0
            while not done.is_set() or rounds == 0:
                for one in archive.instances("1.2.1.1"):
                    assert read(one.data) == wanted[one.uid]
                rounds += 1
            return rounds

        with ThreadPoolExecutor(5) as pool:
            reading = pool.submit(read_along)
            writing = [pool.submit(archive.store, travelling[10 * k :] + travelling[: 20 * k]) for k in range(4)]
            try:
                for one in writing:
                    one.result()
            finally:
                done.set()
            assert reading.result() > 0
        assert _instances(archive, "1.2.1.1") == wanted

    def test_one_of_two_contents_wins_at_once(self, archive: Archive) -> None:
        """Two writers with one UID and two contents: one is stored, the other is told."""
        for number in range(10):
            uid = f"1.2.1.1.{number}"
            both = [instance(data_set(uid, Rows=rows)) for rows in (5, 6)]
            together = threading.Barrier(2)

            def store(one: Instance, together: threading.Barrier = together) -> bool:
                together.wait()
                try:
                    archive.store([one])
                except ConflictError:
                    return False
                return True

            with ThreadPoolExecutor(2) as pool:
                stored = list(pool.map(store, both))
            assert sorted(stored) == [False, True]
            winner = both[stored.index(True)]
            assert _instances(archive, "1.2.1.1", [uid])[uid] == read(winner.data)

    # Being addressed

    def test_has_an_address_without_secrets(self, archive: Archive) -> None:
        assert archive.url
        assert "@" not in archive.url

    def test_closing_twice_is_harmless(self, archive: Archive) -> None:
        archive.close()
        archive.close()
