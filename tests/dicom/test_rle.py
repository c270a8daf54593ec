"""The RLE of frames that we write, unpacked by two decoders that are not ours."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.pixels.decoders.rle import _rle_decode_frame
from pydicom.pixels.encoders.base import RLELosslessEncoder

from residency.dicom.codecs import Expected, decode
from residency.dicom.rle import rle_encode

RLE = "1.2.840.10008.1.2.5"
FEW = st.integers(0, 2)


@given(
    st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda kind: arrays.arrays(
            kind,
            st.tuples(st.integers(1, 9), st.integers(1, 300)),
            elements=st.one_of(FEW, st.integers(0, np.iinfo(kind).max)),
            fill=FEW,
        )
    )
)
@settings(max_examples=300, deadline=None)
def test_every_frame_comes_back(frame: np.ndarray) -> None:
    """Of any width, odd ones too, with runs and stretches longer than one piece holds."""
    data = rle_encode(frame)
    assert len(data) % 2 == 0
    rows, columns = frame.shape
    bits = frame.dtype.itemsize * 8
    judged = np.frombuffer(bytes(_rle_decode_frame(data, rows, columns, 1, bits)), frame.dtype.newbyteorder("<"))
    np.testing.assert_array_equal(judged.reshape(frame.shape), frame)
    np.testing.assert_array_equal(decode(RLE, data, Expected(rows, columns, 1, bits)).words[:, :, 0], frame)


@pytest.mark.parametrize("width", [1, 2, 127, 128, 129, 255, 256, 257, 512])
def test_it_is_as_small_as_anothers(width: int) -> None:
    frame = np.random.default_rng(width).integers(0, 3, (20, width)).astype(np.uint8)
    frame[5:15] = 7
    theirs = RLELosslessEncoder.encode(
        frame,
        encoding_plugin="pydicom",
        rows=20,
        columns=width,
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )
    assert len(rle_encode(frame)) <= len(theirs) * 1.01


def test_the_header_says_where_the_segments_are() -> None:
    frame = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    data = rle_encode(frame)
    count, high, low, *rest = struct.unpack("<16L", data[:64])
    assert (count, high, rest) == (2, 64, [0] * 13)
    assert high < low < len(data)
