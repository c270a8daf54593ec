"""Compressed streams that lie, crash, spin or swell: an error of our own, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import jpeg_ls
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openjpeg.utils import encode_array

from residency.dicom import decoders
from residency.dicom.codecs import CODECS, Expected, check_stream, decode
from residency.dicom.dataset import parse
from residency.dicom.decoders import decode_apart
from residency.dicom.pixels import check, frame_values
from residency.errors import PixelError
from residency.testing.encodings import compressed, instance, rle_stream, texture

JLS, J2K, RLE, SV1 = (f"1.2.840.10008.1.2.{k}" for k in ("4.80", "4.90", "5", "4.70"))
VALUES = texture(64, 48).astype("u2")
EXPECTED = Expected(64, 48, 1, 16)


def _jpeg_ls() -> bytes:
    return bytes(jpeg_ls.encode_array(VALUES))


def _jpeg_2000() -> bytes:
    return bytes(encode_array(VALUES, bits_stored=12, photometric_interpretation=2))


def patched(stream: bytes, at: int, value: bytes) -> bytes:
    return stream[:at] + value + stream[at + len(value) :]


_BEGINNINGS = (
    _jpeg_ls()[:20],
    _jpeg_ls()[:12],
    _jpeg_2000()[:45],
    _jpeg_2000()[:20],
    rle_stream(VALUES)[:40],
    b"\xff\xd8",
)


@pytest.fixture
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[decoders._Processes]:
    """Decoder processes of this test alone."""
    mine = decoders._Processes()
    monkeypatch.setattr(decoders, "_processes", mine)
    yield mine
    mine.close()


@pytest.mark.parametrize(
    ("syntax", "stream", "reason"),
    [
        (JLS, patched(_jpeg_ls(), 7, b"\xff\xff"), "65535 rows, the data set says 64"),
        (JLS, patched(_jpeg_ls(), 9, b"\xff\xff"), "65535 columns, the data set says 48"),
        (JLS, patched(_jpeg_ls(), 6, b"\x11"), "17 bits, the data set allocates 16"),
        (JLS, _jpeg_ls()[:2] + b"\x00" + _jpeg_ls()[2:], "headers are damaged"),
        (JLS, _jpeg_ls()[:15], "headers are damaged"),
        (JLS, _jpeg_ls()[2:], "does not begin"),
        (JLS, _jpeg_ls()[:2] + _jpeg_ls()[2:15] + _jpeg_ls()[2:], "process SOF55"),
        (JLS, _jpeg_ls()[:2] + b"\xff\xf8\x00\x0b\x04\x04" + b"\x00\x01" * 3 + b"\x00" + _jpeg_ls()[2:], "oversize"),
        (SV1, _jpeg_ls(), "process SOF55"),
        (J2K, patched(_jpeg_2000(), 8, b"\xff\xff\xff\xff"), "4294967295 columns|tiles"),
        (J2K, patched(_jpeg_2000(), 16, struct.pack(">L", 7)), "does not begin at its origin"),
        (J2K, patched(_jpeg_2000(), 40, b"\x00\x02"), "size header is damaged"),
        (J2K, patched(_jpeg_2000(), 42, b"\x25"), "38 bits, the data set allocates 16"),
        (J2K, patched(_jpeg_2000(), 43, b"\x02"), "differ in size"),
        (J2K, patched(_jpeg_2000(), 6, b"\x40\x00"), "HTJ2K"),
        (J2K, b"\x00\x00\x00\x0cjP  \r\n\x87\n" + _jpeg_2000(), "does not begin"),
        (RLE, rle_stream(VALUES)[:60], "RLE header is cut short"),
        (RLE, patched(rle_stream(VALUES), 0, b"\x03"), "holds 3 segments, the image needs 2"),
        (RLE, patched(rle_stream(VALUES), 8, b"\xff\xff\xff\xff"), "offsets are damaged"),
        (RLE, patched(rle_stream(VALUES), 4, b"\x10\x00\x00\x00"), "offsets are damaged"),
    ],
)
def test_a_stream_that_says_another_image_never_meets_a_decoder(
    syntax: str, stream: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_processes", None)
    data = compressed(instance(VALUES, bits_stored=12), syntax, [stream])
    with pytest.raises(PixelError, match=reason) as raised:
        check(parse(data))
    assert "instance 2.25." in str(raised.value)


def test_many_tiles_are_refused() -> None:
    stream = patched(_jpeg_2000(), 24, struct.pack(">2L", 1, 1))
    for at, side in ((8, 4096), (12, 4096)):
        stream = patched(stream, at, struct.pack(">L", side))
    with pytest.raises(PixelError, match="more than 4096 tiles"):
        check_stream(J2K, stream, Expected(4096, 4096, 1, 16))


def test_an_image_larger_than_any_is_refused() -> None:
    with pytest.raises(PixelError, match="unpacks to 8589672450 bytes"):
        check_stream(RLE, rle_stream(VALUES), Expected(65535, 65535, 1, 16))


@pytest.mark.parametrize("syntax", CODECS)
def test_noise_is_refused(syntax: str) -> None:
    with pytest.raises(PixelError):
        decode(syntax, bytes(range(256)) * 4, EXPECTED)


def test_an_rle_segment_that_ends_too_soon_is_refused() -> None:
    data = compressed(instance(VALUES, bits_stored=12), RLE, [rle_stream(VALUES)[:-200]])
    with pytest.raises(PixelError, match="an RLE segment unpacks to"):
        frame_values(check(parse(data)), 0)


def test_an_rle_segment_that_swells_is_cut_at_the_image() -> None:
    """Each pair of bytes may say 128: only what the image holds is unpacked."""
    bomb = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * 2_000_000
    words = decode(RLE, bomb, Expected(10, 10, 1, 8)).words
    assert words.shape == (10, 10, 1)
    assert (words == 7).all()


def test_a_decoder_that_spins_is_ended(own_processes: decoders._Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """CharLS may search a cut stream for seconds: the process ends, the next frame is read in another."""
    monkeypatch.setattr(decoders, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(decoders, "SECONDS_A_MEGAPIXEL", 0.003)
    large = texture(1200, 1000).astype("u2")
    stream = bytes(encode_array(large, bits_stored=12, photometric_interpretation=2))
    with pytest.raises(PixelError, match="did not come to an end"):
        decode_apart(J2K, stream, Expected(1200, 1000, 1, 16))
    monkeypatch.undo()
    np.testing.assert_array_equal(decode_apart(J2K, stream, Expected(1200, 1000, 1, 16)).words[:, :, 0], large)


def test_a_decoder_that_dies_takes_nothing_with_it(own_processes: decoders._Processes) -> None:
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    process._running.kill()
    process._running.wait()
    np.testing.assert_array_equal(decode_apart(JLS, _jpeg_ls(), EXPECTED).words[:, :, 0], VALUES)


def test_an_answer_that_nobody_waited_for_is_never_taken_for_another(
    own_processes: decoders._Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between question and answer, the process still has the frame of the first to tell."""
    with monkeypatch.context() as patch:
        patch.setattr(decoders._Process, "_read", lambda _self, _count: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            decode_apart(JLS, _jpeg_ls(), EXPECTED)
    assert own_processes._idle == []
    other = VALUES[::-1].copy()
    found = decode_apart(JLS, bytes(jpeg_ls.encode_array(other)), EXPECTED).words[:, :, 0]
    np.testing.assert_array_equal(found, other)


def test_a_process_that_ends_for_want_of_work_when_asked_is_replaced(
    own_processes: decoders._Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    monkeypatch.setattr(decoders._Process, "alive", True)
    process._running.send_signal(signal.SIGALRM)
    process._running.wait()
    np.testing.assert_array_equal(decode_apart(JLS, _jpeg_ls(), EXPECTED).words[:, :, 0], VALUES)


def test_a_decoder_is_used_again_and_ends_with_its_owner(own_processes: decoders._Processes) -> None:
    for _ in range(3):
        decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    own_processes.close()
    assert process._running.returncode == 0


def test_a_decoder_is_told_no_secrets(own_processes: decoders._Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDENCY_PASSWORD", "hush")
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    assert b"hush" not in Path(f"/proc/{process._running.pid}/environ").read_bytes()


def test_memory_is_bounded_by_the_image(own_processes: decoders._Processes) -> None:
    """A decoder's address space ends at a bound that the data set's size gives, whatever its stream asks for."""
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    soft, _ = resource.prlimit(process._running.pid, resource.RLIMIT_AS)
    assert 512 * 1024 * 1024 < soft < 2 * 1024 * 1024 * 1024


def test_memory_that_others_used_up_is_found_in_a_fresh_process(
    own_processes: decoders._Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good image is not refused because decoders leaked while they read damaged ones before it."""
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    (process,) = own_processes._idle
    used = int(Path(f"/proc/{process._running.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(process._running.pid, resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))
    large = np.zeros((3000, 2000), np.uint16)
    found = decode_apart(JLS, bytes(jpeg_ls.encode_array(large)), Expected(3000, 2000, 1, 16)).words
    assert not found.any()
    assert process._running.poll() is not None


def test_a_fork_starts_decoders_of_its_own(own_processes: decoders._Processes) -> None:
    """Else two processes would write their requests into one pipe."""
    decode_apart(JLS, _jpeg_ls(), EXPECTED)
    child = os.fork()
    if child == 0:
        try:
            equal = np.array_equal(decode_apart(JLS, _jpeg_ls(), EXPECTED).words[:, :, 0], VALUES)
            own = decoders._processes._owner == os.getpid()
            decoders._processes.close()
            os._exit(0 if equal and own else 1)
        finally:
            os._exit(2)
    until = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    assert ended == (child, 0)
    np.testing.assert_array_equal(decode_apart(JLS, _jpeg_ls(), EXPECTED).words[:, :, 0], VALUES)


@settings(max_examples=300, deadline=None)
@given(syntax=st.sampled_from(sorted(CODECS)), tail=st.binary(max_size=120), like=st.sampled_from([b"", *_BEGINNINGS]))
def test_any_bytes_are_a_header_or_a_refusal(syntax: str, tail: bytes, like: bytes) -> None:
    try:
        found = check_stream(syntax, like + tail, EXPECTED)
    except PixelError:
        return
    assert (found.rows, found.columns, found.samples) == (64, 48, 1)
    assert 1 <= found.precision <= 16
