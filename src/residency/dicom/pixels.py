"""Pixels of grey images: stored values, and the modality values that networks are given (DICOM PS3.3 C.7.6.3, PS3.5 8).

What is checked comes first and needs no memory: `check` tells before anything is decoded whether an image can be read
exactly. What it gives holds bytes and numbers alone, so that frames can be decoded in any order, by several at once.
Presentation (VOI, presentation LUT) is never applied: values are those that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from residency.dicom import encapsulated
from residency.dicom.codecs import CODECS, Decoded, Expected, check_stream
from residency.dicom.dataset import pixel_bytes, sop_uid, text, transfer_syntax, value_of
from residency.dicom.decoders import PROCESSES, decode_apart
from residency.dicom.image_pixel import GREY, PixelFormat, Rescale, format_of, rescale_of
from residency.errors import PixelError

NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
"""Transfer syntaxes that hold the pixels as they are."""

ALWAYS_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
"""Transfer syntaxes that lose something whatever the header says."""

LARGEST_VALUE = 1e30
"""Largest modality value that is read; float32 ends at 3e38, and values of patients long before."""

EXACT_IN_FLOAT32 = 1 << 24
"""Whole numbers up to this one are exact in float32. Stored values of 32 bits beyond it are refused."""

Stored = npt.NDArray[np.signedinteger | np.unsignedinteger]


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """The pixels of one instance as they came, checked but not decoded.

    data   the value of Pixel Data, not copied
    spans  of each frame, the parts of data that hold it; () for native pixels, which lie one after the other
    """

    uid: str
    syntax: str
    format: PixelFormat
    rescale: Rescale
    data: bytes
    big_endian_words: bool
    lossy: bool
    spans: tuple[tuple[slice, ...], ...]
    notes: tuple[str, ...]

    def frame(self, index: int) -> bytes:
        """The bytes of one frame, counted from 0: native pixels, or its compressed stream."""
        if self.spans:
            parts = self.spans[index]
            return self.data[parts[0]] if len(parts) == 1 else b"".join(self.data[part] for part in parts)
        size = self.format.frame_bytes
        return self.data[index * size : (index + 1) * size]


def check(dataset: Dataset) -> StoredFrames:
    """The grey pixels of an instance, found and checked without decoding them.

    Read are 8, 16 and 32 bits and Float Pixel Data, uncompressed or of a syntax in CODECS.
    Raises PixelError, naming the instance and the cause, where they cannot be read exactly.
    """
    check_syntax(dataset)
    return found_in(dataset, grey_format(dataset))


def check_syntax(dataset: Dataset) -> None:
    """Raises PixelError for a transfer syntax that is not read."""
    syntax = transfer_syntax(dataset)
    if syntax not in NATIVE and syntax not in CODECS:
        raise PixelError(
            f"instance {sop_uid(dataset)}: transfer syntax {UID(syntax).name} ({syntax}) is not read; ask the archive "
            "for Explicit VR Little Endian"
        )


def found_in(dataset: Dataset, described: PixelFormat) -> StoredFrames:
    """Pixel Data of an instance, divided into frames; sizes are checked, nothing is decoded."""
    uid, syntax = sop_uid(dataset), transfer_syntax(dataset)
    native = syntax in NATIVE
    data = pixel_bytes(dataset, "FloatPixelData" if described.floating else "PixelData")
    spans: tuple[tuple[slice, ...], ...] = ()
    notes: tuple[str, ...] = ()
    if native:
        needed = described.frames * described.frame_bytes
        if len(data) < needed:
            of = f"{described.frames} frames of " if described.frames > 1 else ""
            raise PixelError(
                f"instance {uid}: Pixel Data are cut short: {of}{described.rows} x {described.columns} pixels of "
                f"{described.bits_allocated} bits need {needed} bytes, {len(data)} are there. Send it again"
            )
        # Length is even (PS3.5 8.1.1), so one byte more than needed is padding and no remark.
        notes = ("Pixel Data longer than the image: rest ignored",) if len(data) > needed + 1 else ()
    else:
        spans, notes = encapsulated.frames(data, described.frames, uid, _extended_table(dataset))
    source = StoredFrames(
        uid=uid,
        syntax=syntax,
        format=described,
        rescale=rescale_of(dataset) if _has_rescale(dataset) else Rescale(),
        data=data,
        big_endian_words=syntax == ExplicitVRBigEndian and not described.floating and dataset["PixelData"].VR == "OW",
        lossy=text(dataset, "LossyImageCompression") == "01" or syntax in ALWAYS_LOSSY,
        spans=spans,
        notes=notes,
    )
    check_streams(source)
    return source


def check_format(dataset: Dataset) -> PixelFormat:
    """What a single-frame image's header alone tells of what `check` says: bits, colour, slope and intercept."""
    uid, found = sop_uid(dataset), grey_format(dataset)
    if found.frames > 1:
        raise PixelError(
            f"instance {uid} holds {found.frames} frames without saying where they lie; multi-frame images of this "
            "kind are not read. Send single frames"
        )
    check_range(found, rescale_of(dataset), uid)
    return found


def grey_format(dataset: Dataset) -> PixelFormat:
    """How the pixels of a grey image are stored. Raises PixelError for colour."""
    found = format_of(dataset)
    if found.photometric not in GREY:
        raise PixelError(
            f"instance {sop_uid(dataset)}: Photometric Interpretation '{found.photometric}'; only grey images are "
            "read: what a colour means in grey nobody has measured"
        )
    return found


def check_range(found: PixelFormat, rescale: Rescale, uid: str) -> None:
    """Raises PixelError where slope and intercept give values that no float32 image should hold."""
    if found.floating:
        return
    if max(abs(value * rescale.slope + rescale.intercept) for value in found.stored_range) > LARGEST_VALUE:
        raise PixelError(
            f"instance {uid}: Rescale Slope {rescale.slope:g} and Intercept {rescale.intercept:g} give values beyond "
            f"{LARGEST_VALUE:g}"
        )


def _has_rescale(dataset: Dataset) -> bool:
    """False for enhanced images, which say slope and intercept in functional groups."""
    return "SharedFunctionalGroupsSequence" not in dataset and "PerFrameFunctionalGroupsSequence" not in dataset


def _extended_table(dataset: Dataset) -> tuple[bytes, bytes] | None:
    offsets, lengths = value_of(dataset, "ExtendedOffsetTable"), value_of(dataset, "ExtendedOffsetTableLengths")
    return (offsets, lengths) if isinstance(offsets, bytes) and isinstance(lengths, bytes) else None


def frame_values(
    source: StoredFrames, index: int, *, projection: bool = False, rescale: Rescale | None = None
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """float32 modality values of one frame, (rows, columns), and what had to be done to read them.

    index       of the frame, from 0
    projection  True for radiographs, which are given bright = dense: MONOCHROME1 is inverted within the range that its
                bits can say. CT and MR values mean the same either way and are left alone.
    rescale     slope and intercept of this frame, where they do not stand at the top of the instance

    Pixel padding keeps its stored value x slope + intercept and is told in the remarks: other readers do the same, so
    networks were trained on it. Raises PixelError where the pixels turn out to be damaged.
    """
    rescale = source.rescale if rescale is None else rescale
    if source.format.floating:
        if rescale != Rescale():
            raise PixelError(
                f"instance {source.uid}: Float Pixel Data with Rescale Slope {rescale.slope:g} and Intercept "
                f"{rescale.intercept:g}; whether they still apply is not said. Send stored integers, or leave them out"
            )
        return _floats(source, index)
    check_range(source.format, rescale, source.uid)
    stored, notes = stored_values(source, index)
    if (
        source.format.bits_stored > 24
        and stored.size
        and max(abs(int(stored.min())), int(stored.max())) > (EXACT_IN_FLOAT32)
    ):
        raise PixelError(
            f"instance {source.uid}: stored values beyond {EXACT_IN_FLOAT32} would lose digits; send it with 16 bits"
        )
    notes = (*source.notes, *notes, *_padding_remark(source.format, stored))
    values = stored.astype(np.float64) * rescale.slope + rescale.intercept
    if source.format.inverse and projection:
        low, high = source.format.stored_range
        values = (low + high) * rescale.slope + 2.0 * rescale.intercept - values
        notes = (*notes, "MONOCHROME1 inverted")
    return values.astype(np.float32), (*notes, "lossy compression") if source.lossy else notes


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of an instance, from 0, with its own slope and intercept (None: those of the instance)."""

    source: StoredFrames
    index: int = 0
    rescale: Rescale | None = None


def fill(
    array: npt.NDArray[np.float32], frames: Sequence[Frame], *, projection: bool = False
) -> tuple[tuple[str, ...], ...]:
    """Puts the modality values of each frame into array[k], (frames, rows, columns); the remarks of each.

    Compressed frames are decoded several at once, and never more than that wait in memory.
    Raises PixelError for the first frame that cannot be decoded; the rest is then not begun.
    """

    def put(k: int) -> tuple[str, ...]:
        frame = frames[k]
        array[k], remarks = frame_values(frame.source, frame.index, projection=projection, rescale=frame.rescale)
        return remarks

    if len(frames) < 2 or not any(frame.source.spans for frame in frames):
        return tuple(put(k) for k in range(len(frames)))
    with ThreadPoolExecutor(PROCESSES) as several:
        waiting = [several.submit(put, k) for k in range(len(frames))]
        try:
            return tuple(future.result() for future in waiting)
        except BaseException:
            several.shutdown(wait=False, cancel_futures=True)
            raise


def _padding_remark(described: PixelFormat, stored: Stored) -> tuple[str, ...]:
    if described.padding is None:
        return ()
    low, high = described.padding
    if not ((stored >= low) & (stored <= high)).any():
        return ()
    return (f"pixel padding (stored {low}{'' if low == high else f' to {high}'}) kept as it is",)


def _floats(source: StoredFrames, index: int) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    order = ">" if source.syntax == ExplicitVRBigEndian else "<"
    shape = source.format.rows, source.format.columns
    values = np.frombuffer(source.frame(index), f"{order}f4").reshape(shape).astype(np.float32)
    if not np.isfinite(values).all() or np.abs(values).max() > LARGEST_VALUE:
        raise PixelError(f"instance {source.uid}: Float Pixel Data hold values that are not finite or beyond bounds")
    return values, source.notes


def stored_values(source: StoredFrames, index: int) -> tuple[Stored, tuple[str, ...]]:
    """Stored values of one grey frame, integers of shape (rows, columns), and what had to be done to read them.

    Bits outside Bits Stored are cleared (old scanners keep overlays there).
    """
    if source.syntax in NATIVE:
        words = native_words(source, index).reshape(source.format.rows, source.format.columns)
        return _significant(words, source.format)
    found = decoded_words(source, index)
    # RLE packs the words of native pixels, whatever stands in their other bits.
    return (
        _significant(found.words[:, :, 0], source.format)
        if source.syntax == RLELossless
        else _from_stream(found, source)
    )


def native_words(source: StoredFrames, index: int) -> Stored:
    """Unsigned words of an uncompressed frame, flat, as they stand in Pixel Data."""
    width = source.format.bits_allocated // 8
    if source.big_endian_words and width == 1:
        raise PixelError(f"instance {source.uid}: 8-bit pixels in big-endian words are not read; send little endian")
    order = ">" if source.syntax == ExplicitVRBigEndian else "<"
    return np.frombuffer(source.frame(index), f"{order}u{width}").astype(f"u{width}", copy=False)


def decoded_words(source: StoredFrames, index: int) -> Decoded:
    """A compressed frame, unpacked. Raises PixelError, naming the instance, where it cannot be."""
    try:
        return decode_apart(source.syntax, source.frame(index), _expected(source.format))
    except PixelError as error:
        raise _named(error, source, index) from None


def _expected(described: PixelFormat) -> Expected:
    return Expected(described.rows, described.columns, described.samples, described.bits_allocated)


def _named(error: PixelError, source: StoredFrames, index: int) -> PixelError:
    where = f"frame {index + 1} of " if source.format.frames > 1 else ""
    return PixelError(
        f"{where}instance {source.uid}: the compressed pixels are damaged or contradict the data set: {error}. "
        "Send it again, or uncompressed"
    )


def check_streams(source: StoredFrames) -> None:
    """Compares what every compressed frame says of itself with the data set. Raises PixelError as `decoded_words`."""
    for index in range(len(source.spans)):
        try:
            check_stream(source.syntax, source.frame(index), _expected(source.format))
        except PixelError as error:
            raise _named(error, source, index) from None


def _from_stream(found: Decoded, source: StoredFrames) -> tuple[Stored, tuple[str, ...]]:
    """Stored values of a decoded stream: the bits are the stream's, the sign is the data set's.

    JPEG and JPEG-LS say no sign, JPEG 2000 may say another than Pixel Representation (PS3.5 8.2.4 demands that both
    agree; real scanners differ). Unsigned samples of signed pixels are patterns of Bits Stored, or the same with their
    sign carried on to the stream's precision. What is neither, and what does not fit into Bits Stored, is refused.
    """
    described, precision = source.format, found.header.precision
    bits, words = described.bits_stored, found.words[:, :, 0]
    notes: tuple[str, ...] = ()
    if found.header.signed:
        values = words.view(f"i{words.dtype.itemsize}").astype(np.int64)
    else:
        values = words.astype(np.int64)
        if described.signed:
            values = _signed(values, bits, precision, source.uid)
            notes = (
                () if found.header.signed is None else ("sign taken from Pixel Representation, not from the stream",)
            )
    low, high = described.stored_range
    if described.high_bit != bits - 1 or values.min() < low or values.max() > high:
        raise PixelError(f"instance {source.uid}: compressed pixels exceed Bits Stored {bits}; the header is wrong")
    return values, notes


def _signed(words: npt.NDArray[np.int64], bits: int, precision: int, uid: str) -> npt.NDArray[np.int64]:
    """Two's complement of `bits` in unsigned samples of `precision`; what is no such pattern stays beyond the range."""
    half = 1 << (min(bits, precision) - 1)
    if precision < bits and words.max() >= half:
        raise PixelError(
            f"instance {uid}: its stream has {precision} bits without sign, the data set {bits} with; which values are "
            "negative cannot be told. Send it uncompressed"
        )
    values = np.where((words >= half) & (words < 1 << bits), words - (1 << bits), words)
    if precision > bits:
        values = np.where(words >= (1 << precision) - half, words - (1 << precision), values)
    return values


def _significant(raw: Stored, found: PixelFormat) -> tuple[Stored, tuple[str, ...]]:
    """The bits that count, with their sign."""
    width = found.bits_allocated
    kind = f"{'i' if found.signed else 'u'}{width // 8}"
    if found.bits_stored == width:
        return raw.view(kind), ()
    # Left against the top, then back again: the second shift carries the sign of signed pixels.
    top, back = width - 1 - found.high_bit, width - found.bits_stored
    values = (raw << top).view(kind) >> back
    if found.high_bit == found.bits_stored - 1 and not np.array_equal(values.view(raw.dtype), raw):
        return values, ("bits above Bits Stored cleared",)
    return values, ()
