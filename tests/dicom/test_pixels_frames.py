"""Where frames lie in encapsulated Pixel Data: every table, none, any fragments; and what is no frame is refused."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.dicom import encapsulated
from residency.dicom.dataset import parse
from residency.dicom.pixels import check, stored_values
from residency.errors import PixelError
from residency.testing.encodings import instance, rle_stream, texture, written

UID = "1.2.3"
ITEM = b"\xfe\xff\x00\xe0"


def item(value: bytes) -> bytes:
    return ITEM + struct.pack("<L", len(value)) + value


def packed(frames: list[list[bytes]], *, table: bool) -> bytes:
    """Frames, each a list of fragments, as the value of Pixel Data."""
    offsets, at = [], 0
    for fragments in frames:
        offsets.append(at)
        at += sum(8 + len(fragment) for fragment in fragments)
    basic = struct.pack(f"<{len(offsets)}L", *offsets) if table else b""
    return item(basic) + b"".join(item(fragment) for fragments in frames for fragment in fragments)


def joined(data: bytes, spans: tuple[tuple[slice, ...], ...]) -> list[bytes]:
    return [b"".join(data[span] for span in parts) for parts in spans]


def even(data: bytes) -> bytes:
    return data + b"\x00" * (len(data) % 2)


streams = st.binary(max_size=40).map(lambda body: even(b"\xff\xd8\xff" + body.replace(b"\xff", b"\xfe") + b"\xff\xd9"))


@st.composite
def fragmented(draw: st.DrawFn) -> list[list[bytes]]:
    """One to five streams, each cut at any even places."""
    frames = []
    for stream in draw(st.lists(streams, min_size=1, max_size=5)):
        cuts = draw(st.sets(st.integers(1, max(1, len(stream) // 2 - 1)), max_size=3))
        edges = [0, *sorted(2 * cut for cut in cuts if 2 * cut < len(stream)), len(stream)]
        frames.append([stream[a:b] for a, b in pairwise(edges)])
    return frames


@settings(max_examples=200, deadline=None)
@given(frames=fragmented(), table=st.booleans())
def test_frames_are_found_however_they_are_cut(frames: list[list[bytes]], table: bool) -> None:
    data = packed(frames, table=table)
    spans, notes = encapsulated.frames(data, len(frames), UID)
    assert joined(data, spans) == [b"".join(fragments) for fragments in frames]
    assert notes == ()


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_the_extended_table_finds_frames_and_their_true_lengths(lengths: list[int]) -> None:
    frames = [bytes([k + 1]) * length for k, length in enumerate(lengths)]
    data = packed([[even(frame)] for frame in frames], table=False)
    offsets = np.cumsum([0, *[8 + len(even(frame)) for frame in frames]])[:-1]
    extended = struct.pack(f"<{len(frames)}Q", *offsets), struct.pack(f"<{len(frames)}Q", *lengths)
    spans, notes = encapsulated.frames(data, len(frames), UID, extended)
    assert joined(data, spans) == frames
    assert notes == ()


def test_delimiters_within_a_stream_end_nothing() -> None:
    stream = b"\xff\xd8\xff\xfe\xff\xdd\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\xff\xff\xff\xff\x00\xff\xd9"
    data = packed([[stream], [stream]], table=True)
    assert joined(data, encapsulated.frames(data, 2, UID)[0]) == [stream, stream]


def test_a_table_that_contradicts_as_many_fragments_as_frames_is_told_and_not_used() -> None:
    frames = [[b"one!"], [b"two!"]]
    data = bytearray(packed(frames, table=True))
    data[12] = 99
    spans, notes = encapsulated.frames(bytes(data), 2, UID)
    assert joined(bytes(data), spans) == [b"one!", b"two!"]
    assert notes == ("offset table contradicts the fragments: not used",)


@pytest.mark.parametrize(
    ("data", "frames", "reason"),
    [
        (b"", 1, "no compressed image"),
        (item(b""), 1, "no compressed image"),
        (item(b"") + b"\x00" * 12, 1, "not the items"),
        (item(b"") + ITEM + struct.pack("<L", 0xFFFFFFFF) + b"\x00" * 8, 1, "announces 4294967295 bytes, 8 are there"),
        (packed([[b"ab"], [b"cd"]], table=False), 3, "3 frames are announced, Pixel Data hold 2 fragments"),
        (packed([[b"ab", b"cd"], [b"ef"]], table=False), 2, "the compressed streams do not tell"),
        (item(struct.pack("<2L", 0, 11)) + item(b"ab") * 3, 2, "its offset table does not tell"),
        (item(struct.pack("<2L", 10, 0)) + item(b"ab") * 3, 2, "its offset table does not tell"),
        (item(struct.pack("<2L", 0, 0)) + item(b"ab") * 3, 2, "its offset table does not tell"),
    ],
)
def test_frames_that_cannot_be_told_apart_are_refused(data: bytes, frames: int, reason: str) -> None:
    with pytest.raises(PixelError, match=reason) as raised:
        encapsulated.frames(data, frames, UID)
    assert UID in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=120), frames=st.integers(1, 9), extended=st.none() | st.tuples(st.binary(), st.binary()))
def test_any_bytes_give_frames_within_them_or_a_refusal(
    data: bytes, frames: int, extended: tuple[bytes, bytes] | None
) -> None:
    for whole in (data, item(b"") + data, packed([[data]], table=True)):
        try:
            spans, _ = encapsulated.frames(whole, frames, UID, extended)
        except PixelError:
            continue
        assert len(spans) == frames
        assert all(0 <= part.start <= part.stop <= len(whole) for parts in spans for part in parts)


def test_frames_keep_their_order_through_the_whole_reader() -> None:
    frames = np.stack([np.roll(texture(13, 11), k, axis=0) for k in range(4)]).astype("u2")
    dataset = instance(frames, bits_stored=12)
    dataset.PixelData = packed([[rle_stream(frame)] for frame in frames], table=True)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    source = check(parse(written(dataset, "1.2.840.10008.1.2.5")))
    for k in (3, 0, 2, 1):
        np.testing.assert_array_equal(stored_values(source, k)[0], frames[k])


def test_native_frames_that_do_not_fit_are_refused() -> None:
    frames = np.stack([texture(13, 11)] * 4).astype("u2")
    dataset = instance(frames, bits_stored=12, NumberOfFrames=5)
    with pytest.raises(PixelError, match="5 frames of 13 x 11 pixels of 16 bits need 1430 bytes, 1144 are there"):
        check(parse(written(dataset)))


def test_two_encodings_of_real_frames_are_equal(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "awkward"
    fragmented, whole = (
        check(parse((folder / f"{name}.dcm").read_bytes()))
        for name in ("ect_2frames_jpegls_fragmented_no_bot", "ect_2frames_rle_bot")
    )
    assert len(fragmented.spans[0]) > 1
    for k in range(2):
        np.testing.assert_array_equal(stored_values(fragmented, k)[0], stored_values(whole, k)[0])
