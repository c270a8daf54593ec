"""Hostile bytes: an error of our own with a bounded cost, whatever stands in the file."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from residency.dicom.dataset import parse
from residency.dicom.findings import read_report, read_segmentation
from residency.dicom.labels import read_labels
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import InputError, ResidencyError
from residency.findings import Findings
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid


def _plain() -> bytes:
    (data,) = mr_series(Volume(np.zeros((1, 4, 5), np.float32), regular_grid((1, 4, 5), (2.0, 1.0, 0.5))))
    return data


PLAIN = _plain()


def _survives(data: bytes) -> None:
    for read in (
        lambda: open_series([data]).volume(),
        lambda: read_labels([data]),
        lambda: read_segmentation(data),
        lambda: read_report(data),
    ):
        try:
            read()
        except ResidencyError as error:
            assert "Phantom^Test" not in str(error)  # noqa: PT017


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(132, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_changed_bytes_never_escape_as_another_error(edits: list[tuple[int, int]]) -> None:
    data = bytearray(PLAIN)
    for at, value in edits:
        data[at] = value
    _survives(bytes(data))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(PLAIN) - 1))
@example(length=132)
@example(length=140)
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(InputError):
        open_series([PLAIN[:length]])


@settings(max_examples=40, deadline=None)
@given(tail=st.binary(max_size=400))
def test_any_bytes_after_the_preamble_are_survived(tail: bytes) -> None:
    _survives(b"\x00" * 128 + b"DICM" + tail)


@pytest.fixture(scope="module")
def results(
    findings_on: Callable[..., Findings], identity_of: Callable[[SourceSeries], ResultIdentity]
) -> tuple[bytes, bytes]:
    source = open_series([PLAIN])
    findings = findings_on(source, np.ones(source.grid.shape, np.bool_))
    seg = segmentation(findings, source, identity_of(source))
    return seg.data, report(findings, source, identity_of(source), seg).data


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_changed_results_never_escape_as_another_error(results: tuple[bytes, bytes], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for made in results:
        data = np.frombuffer(made, np.uint8).copy()
        data[rng.integers(132, len(data), 6)] = rng.integers(0, 256, 6)
        _survives(data.tobytes())


def _saved(dataset: pydicom.Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _peak(action: Callable[[], object]) -> int:
    """Most bytes in use while the action is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_a_header_cannot_make_us_allocate(syntax: pydicom.uid.UID | None) -> None:
    dataset = pydicom.dcmread(BytesIO(PLAIN))
    dataset.Rows = dataset.Columns = 65535
    if syntax is not None:
        dataset.PixelData = encapsulate([b"\x00" * 64])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    data = _saved(dataset)
    assert _peak(lambda: open_series([data]).volume()) < 5_000_000


def test_a_deflate_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.dicom.dataset.MAX_INFLATED_BYTES", 100_000)
    dataset = pydicom.dcmread(BytesIO(PLAIN))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = _saved(dataset)
    start = len(head) - len(_body(head))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(b"\x00" * 50_000_000) + packer.flush()
    with pytest.raises(InputError, match="unpacks to more than 100000 bytes"):
        parse(head[:start] + bomb)


def _body(data: bytes) -> bytes:
    """What follows the file meta group, whose length its first element tells."""
    (length,) = struct.unpack("<L", data[140:144])
    return data[144 + length :]


def test_endless_nesting_is_refused() -> None:
    (length,) = struct.unpack("<L", PLAIN[140:144])
    head = PLAIN[: 144 + length]
    opened = b"\x40\x00\x30\xa7SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    with pytest.raises(InputError):
        open_series([head + opened])


def test_a_chain_of_nested_content_is_followed_only_so_far(
    findings_on: Callable[..., Findings], identity_of: Callable[[SourceSeries], ResultIdentity]
) -> None:
    source = open_series([PLAIN])
    findings = findings_on(source, np.ones(source.grid.shape, np.bool_))
    dataset = pydicom.dcmread(BytesIO(report(findings, source, identity_of(source), None).data))
    inner = dataset.ContentSequence
    for _ in range(60):
        item = pydicom.Dataset()
        item.ValueType = "CONTAINER"
        item.ContentSequence = inner
        inner = [item]
    dataset.ContentSequence = inner
    assert read_report(_saved(dataset)).groups == ()
