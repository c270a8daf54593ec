"""multipart and the DICOM JSON model, as streams from a stranger."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from residency.archive import Level
from residency.archives.dicomweb import headers
from residency.archives.dicomweb.http import _plain
from residency.archives.dicomweb.model import bulk, encode, objects, text_of
from residency.archives.dicomweb.multipart import Body, LargerError, parts
from residency.archives.dicomweb.query import _entry
from residency.errors import AnswerError
from residency.testing.archive import data_set

TYPE = 'multipart/related; type="application/dicom"; boundary=mark'


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    place = 0
    for size in sizes:
        yield data[place : place + size]
        place += size
    yield data[place:]


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n--mark", b"--mark--"])),
    st.lists(st.integers(0, 40), max_size=60),
)
def test_parts_come_back_however_the_stream_is_cut(contents: list[bytes], sizes: list[int]) -> None:
    body = Body(contents, "application/dicom")
    whole = b"".join(body.pieces())
    assert len(whole) == body.length
    assert list(parts(_pieces(whole, sizes), body.content_type, largest=400, most=1000)) == (contents or [])


def test_other_ways_of_writing_multipart_are_read() -> None:
    """A preamble, blanks behind a boundary, quoted boundaries, parts without header lines, words behind the end."""
    body = b"words\r\n--a b \t\r\n\r\none\r\n--a b\r\nContent-Length: 3\r\nX: y\r\n\r\ntwo\r\n--a b--\r\nmore words"
    assert list(parts([body], 'multipart/related; boundary="a b"', largest=9, most=9)) == [b"one", b"two"]
    assert list(parts([b"one"], "application/dicom", largest=9, most=9)) == [b"one"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", TYPE),
        (b"--mark\r\n\r\none", TYPE),
        (b"--mark\r\n\r\none\r\n--mark", TYPE),
        (b"--mark\r\n\r\none\r\n--mar", TYPE),
        (b"--mark and more\r\n\r\none\r\n--mark--", TYPE),
        (b"--mark\r\n" + b"X: y\r\n" * 1000 + b"\r\none\r\n--mark--", TYPE),
        (b"--mark\r\nX: " + b"y" * 10**5 + b"\r\n\r\none\r\n--mark--", TYPE),
        (b"x" * 10**6 + b"\r\n--mark\r\n\r\none\r\n--mark--", TYPE),
        (b"--mark\r\n\r\n" + b"x" * 2000 + b"\r\n--mark--", TYPE),
        (b"--mark\r\n\r\none\r\n" * 20 + b"--mark--", TYPE),
        (b"--mark\r\n\r\none\r\n--mark--", "multipart/related"),
        (b"--mark\r\n\r\none\r\n--mark--", "multipart/related; boundary=" + "m" * 300),
        (b"x" * 2000, "application/dicom"),
    ],
)
def test_malformed_multipart_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(AnswerError):
        list(parts([body], kind, largest=1000, most=10))


def test_a_part_too_large_gives_what_was_read_of_it() -> None:
    with pytest.raises(LargerError) as error:
        list(parts(_pieces(b"--mark\r\n\r\n" + b"x" * 2000, [7] * 300), TYPE, largest=1000, most=10))
    assert 1000 < len(error.value.beginning) < 1020
    assert set(error.value.beginning) == {ord("x")}


def test_a_long_series_streams_in_the_memory_of_a_few_instances() -> None:
    """200 instances of 1 MiB, made as they are read; never more than a handful are held."""
    one = bytes(2**20)

    def stream() -> Iterator[bytes]:
        for _ in range(200):
            yield b"--mark\r\nContent-Type: application/dicom\r\n\r\n"
            yield from (one[i : i + 65536] for i in range(0, len(one), 65536))
            yield b"\r\n"
        yield b"--mark--\r\n"

    tracemalloc.start()
    try:
        assert sum(len(part) for part in parts(stream(), TYPE, largest=2**21, most=1000)) == 200 * 2**20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20


# The JSON model


def _image() -> Dataset:
    image = data_set(
        "1.2.1.1.1",
        SpecificCharacterSet="ISO_IR 100",
        SeriesDescription="Schädel",
        PatientName="Müller^Änne",
        ImageType=["ORIGINAL", "", "AXIAL"],
        ImagePositionPatient=["-0.1234567890123", "1", "2e-5"],
        SliceThickness="2.50",
        AcquisitionNumber="7",
        ImageComments="first \\ second\r\nthird",
        PixelData=None,
    )
    image.add_new("RecommendedDisplayFrameRateInFloat", "FL", 0.5)
    image.add_new("FrameIncrementPointer", "AT", [0x00181063, 0x00540010])
    image.add_new("SmallestImagePixelValue", "SS", -5)
    image.add_new("PixelPaddingValue", "US", 65535)
    image.add_new("RegionLocationMinX0", "UL", 2**32 - 1)
    image.add_new("SelectorSVValue", "SV", -(2**60))
    image.add_new("SelectorUVValue", "UV", 2**63)
    image.add_new("ImagingFrequency", "DS", "63.8")
    image.add_new(0x60003000, "OW", bytes(range(16)))
    image.add_new("SeriesDate", "DA", "")
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "5366008", "Hippocampus · 海马"
    inner.EncapsulatedDocument = b"odd"
    outer = Dataset()
    outer.ConceptNameCodeSequence = Sequence([inner, Dataset()])
    image.AnatomicRegionSequence = Sequence([outer])
    image.ReferencedStudySequence = Sequence([])
    block = image.private_block(0x0071, "RESIDENCY TEST 1", create=True)
    block.add_new(1, "OB", b"\0\1")
    block.add_new(2, "UT", "manifest")
    return image


def test_a_data_set_comes_back_from_json() -> None:
    """Every VR that JSON carries; text as UTF-8, whatever it was in."""
    image = _image()
    image.SpecificCharacterSet = "ISO_IR 192"
    written = json.dumps(image.to_json_dict(bulk_data_threshold=10**9)).encode()
    (row,) = objects(_pieces(b"[" + written + b"]", [5] * 40))
    read = pydicom.dcmread(io.BytesIO(encode(row)))
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.1.1.1"
    for element in image:
        if element.keyword != "AnatomicRegionSequence":
            assert read[element.tag] == element, element
    items = read.AnatomicRegionSequence[0].ConceptNameCodeSequence
    assert items[0].CodeMeaning == "Hippocampus · 海马"
    assert items[0].EncapsulatedDocument.rstrip(b"\0") == b"odd"
    assert len(items) == 2


def test_characters_beyond_ascii_are_said_to_be_utf_8() -> None:
    text = {"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, "0008103E": {"vr": "LO", "Value": ["Schädel"]}}
    assert pydicom.dcmread(io.BytesIO(encode(text))).SeriesDescription == "Schädel"
    plain = {**text, "0008103E": {"vr": "LO", "Value": ["Head"]}}
    assert pydicom.dcmread(io.BytesIO(encode(plain))).SpecificCharacterSet == "ISO_IR 100"


def test_long_text_is_put_together_where_an_archive_split_it() -> None:
    """Orthanc splits a manifest at its backslashes; its signature is over the characters."""
    row = {"00081155": {"vr": "UI"}, "0040A160": {"vr": "UT", "Value": ['{"a":"', 'u00e4"}']}}
    assert pydicom.dcmread(io.BytesIO(encode(row))).TextValue == '{"a":"\\u00e4"}'


def test_numbers_keep_their_characters() -> None:
    (row,) = objects([b'{"00280030": {"vr": "DS", "Value": [0.10, 1e-3, 0.12345678901234567]}}'])
    assert b"0.10\\1e-3\\" in encode(row)
    assert all(len(v) <= 16 for v in encode(row)[-46:].split(b"DS")[1][2:].decode().split("\\"))


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "XX", "Value": ["a"]},
        {"vr": "US", "Value": [70000]},
        {"vr": "US", "Value": ["a"]},
        {"vr": "US", "Value": {"a": 1}},
        {"vr": "AT", "Value": ["00zz0010"]},
        {"vr": "OB", "InlineBinary": "no base64!"},
        {"vr": "OB", "InlineBinary": 5},
        {"vr": "SQ", "Value": ["text"]},
        {"vr": "LO", "Value": [{"a": 1}]},
        {"vr": "LO", "Value": ["x" * 70000]},
        {"vr": 5, "Value": ["a"]},
    ],
)
def test_values_that_their_vr_does_not_allow_are_refused(element: dict[str, object]) -> None:
    (row,) = objects([json.dumps({"00280030": element}).encode()])
    with pytest.raises(AnswerError):
        encode(row)


@pytest.mark.parametrize(
    "text",
    [
        b"<html>",
        b"[",
        b"[{",
        b"[{}",
        b"[{},",
        b"[{} {}]",
        b"[[]]",
        b"[1]",
        b'[{"a": nul}]',
        b'{"a": "\xff"}',
        b"[" + b'{"a":[' * 100_000,
    ],
)
def test_json_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(AnswerError):
        list(objects([text]))


def test_text_that_cannot_be_written_is_replaced() -> None:
    """Half a surrogate pair is JSON, and would end in a traceback wherever it is shown."""
    (row,) = objects([b'[{"0008103E": {"vr": "LO", "Value": ["a\\ud800b"]}}]'])
    assert text_of(row, "0008103E") == "a?b"


def test_bytes_behind_a_packed_answer_are_refused_and_not_kept() -> None:
    def endless() -> Iterator[bytes]:
        yield gzip.compress(b"[{}, ")
        for _ in range(1000):
            yield bytes(2**16)

    tracemalloc.start()
    with pytest.raises(AnswerError, match="behind its end"):
        list(objects(_plain(endless(), "gzip")))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_empty_answers_are_no_rows() -> None:
    for text in (b"", b"  \n", b"[]", b" [ ] "):
        assert list(objects([text])) == []


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for text in (data, b"[" + data, b'[{"00280030": ' + data + b"}]"):
        try:
            for row in objects([text]):
                encode(row)
        except AnswerError:
            pass


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["SQ", "OB", "DS"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vr", "Value", "InlineBinary", "BulkDataURI", "00080005"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
_ROWS = st.dictionaries(
    st.sampled_from(["00080005", "00080018", "0020000D", "0020000E", "00280008", "00201209", "7FE00010", "00082112"]),
    st.fixed_dictionaries({"vr": _VALUES, "Value": _VALUES}) | _VALUES,
)


@settings(deadline=None, max_examples=200)
@given(_ROWS)
def test_no_row_does_more_than_be_refused(row: dict[str, object]) -> None:
    """Rows are a stranger's: any JSON may stand where a value belongs."""
    for parsed in objects([json.dumps(row).encode()]):
        headers._header("1.2.3", parsed)
        for read in (encode, lambda r: list(bulk(r)), lambda r: _entry(r, Level.SERIES, {})):
            with suppress(AnswerError):
                read(parsed)
