"""Compressed streams to stored values: one decoder for each transfer syntax, so that equal bytes give equal pixels.

No pydicom in here, and no import of a decoder before it is needed: a process of its own runs this. What a stream says
of itself is compared with what the data set says before a decoder is called; nothing is allocated by the stream's word.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.dicom.streams import StreamHeader, jpeg2000_header, jpeg_header, rle_segments
from residency.errors import PixelError

Words = npt.NDArray[np.uint8 | np.uint16 | np.uint32]

MAX_DECODED_BYTES = 256 * 1024 * 1024
"""Largest image that a compressed stream may unpack to: 8192 x 8192 at 16 bits is half of it."""


@dataclass(frozen=True)
class Expected:
    """What the data set says of one frame."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int

    @property
    def words(self) -> int:
        """Samples of the frame."""
        return self.rows * self.columns * self.samples

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the unpacked frame."""
        return self.words * ((self.bits_allocated + 7) // 8)


@dataclass(frozen=True, eq=False)
class Decoded:
    """words: unsigned, (rows, columns, samples), bit for bit as the stream holds them; header: what it says of them."""

    words: Words
    header: StreamHeader


@dataclass(frozen=True)
class _Codec:
    """header reads what the stream says of itself; words unpacks it, once that is what the data set says."""

    header: Callable[[bytes, Expected], StreamHeader]
    words: Callable[[bytes, StreamHeader, str], Words]


def word_type(header: StreamHeader) -> str:
    """numpy's name of the smallest unsigned word that holds a sample."""
    return "<u1" if header.precision <= 8 else "<u2" if header.precision <= 16 else "<u4"


def check_stream(syntax: str, stream: bytes, expected: Expected) -> StreamHeader:
    """What the stream says of itself. Raises PixelError where that is another image than the data set's."""
    if expected.decoded_bytes > MAX_DECODED_BYTES:
        raise PixelError(f"the image unpacks to {expected.decoded_bytes} bytes, at most {MAX_DECODED_BYTES} are read")
    header = CODECS[syntax].header(stream, expected)
    for what, said, wanted in (
        ("rows", header.rows, expected.rows),
        ("columns", header.columns, expected.columns),
        ("samples", header.samples, expected.samples),
    ):
        if said != wanted:
            raise PixelError(f"the stream has {said} {what}, the data set says {wanted}")
    if not 1 <= header.precision <= expected.bits_allocated:
        raise PixelError(f"the stream has {header.precision} bits, the data set allocates {expected.bits_allocated}")
    return header


def decode(syntax: str, stream: bytes, expected: Expected) -> Decoded:
    """One compressed frame. Raises PixelError where the stream is damaged or is another image than expected.

    MemoryError goes through: whoever bounded the memory knows what it means.
    """
    header = check_stream(syntax, stream, expected)
    try:
        words = CODECS[syntax].words(stream, header, syntax)
        words = words.reshape(expected.rows, expected.columns, expected.samples)
        words = words.astype(word_type(header), copy=False)
    except (PixelError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever damaged streams lead them to
        raise PixelError(f"its decoder gives up ({type(error).__name__})") from None
    return Decoded(words, header)


def _jpeg(*processes: int, first_order: bool = False) -> Callable[[bytes, Expected], StreamHeader]:
    allowed = frozenset(processes)
    return lambda stream, _expected: jpeg_header(stream, allowed, first_order=first_order)


def _jpeg2000(*, high_throughput: bool) -> Callable[[bytes, Expected], StreamHeader]:
    return lambda stream, _expected: jpeg2000_header(stream, high_throughput=high_throughput)


def _rle_header(stream: bytes, expected: Expected) -> StreamHeader:
    rle_segments(stream, expected.samples * ((expected.bits_allocated + 7) // 8))
    return StreamHeader(expected.rows, expected.columns, expected.samples, expected.bits_allocated)


def _with_gdcm(stream: bytes, header: StreamHeader, syntax: str) -> Words:
    """GDCM: JPEG of all processes and JPEG 2000. It is told the size and depth that the stream's header says."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((header.columns, header.rows, 1))
    image.SetDataElement(element)
    # YBR_FULL leaves colours as they are in the stream; conversion is ours.
    meant = (
        gdcm.PhotometricInterpretation.MONOCHROME2 if header.samples == 1 else gdcm.PhotometricInterpretation.YBR_FULL
    )
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(meant))
    if header.samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    width = 8 if header.precision <= 8 else 16
    image.SetPixelFormat(
        gdcm.PixelFormat(header.samples, width, header.precision, header.precision - 1, int(bool(header.signed)))
    )
    # GDCM gives its buffer as text that holds bytes.
    return np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), word_type(header))


def _with_openjpeg(stream: bytes, header: StreamHeader, _syntax: str) -> Words:
    """OpenJPEG: HTJ2K, and the judge of GDCM for JPEG 2000."""
    from openjpeg.utils import decode_pixel_data

    return np.frombuffer(decode_pixel_data(stream, version=2), word_type(header))


def _with_charls(stream: bytes, header: StreamHeader, _syntax: str) -> Words:
    """CharLS: JPEG-LS. Planes and lines come apart as the stream holds them and are put together here."""
    import jpeg_ls

    buffer, told = jpeg_ls.decode_pixel_data(stream)
    words = np.frombuffer(buffer, word_type(header))
    if header.samples > 1 and told["interleave_mode"] == 0:
        return np.moveaxis(words.reshape(header.samples, header.rows, header.columns), 0, -1)
    return words


def _with_libjpeg(stream: bytes, header: StreamHeader, _syntax: str) -> Words:
    """libjpeg-turbo, in Pillow: JPEG of 8 bits. Colours as they are in the stream; conversion is ours."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = Image.open(io.BytesIO(stream), formats=("JPEG",))
        if picture.size != (header.columns, header.rows):
            raise PixelError("its decoder sees another size than its header says")
        if header.samples == 3 and header.transformed is not False:
            picture.draft("YCbCr", picture.size)
        return np.asarray(picture)


def _rle(stream: bytes, header: StreamHeader, _syntax: str) -> Words:
    """RLE (PS3.5 annex G): one segment a byte of a sample, most significant first."""
    width, size = (header.precision + 7) // 8, header.rows * header.columns
    planes = np.empty((header.samples, size, width), np.uint8)
    for k, span in enumerate(rle_segments(stream, header.samples * width)):
        planes[k // width, :, width - 1 - k % width] = np.frombuffer(_unpacked(stream[span], size), np.uint8)
    words = planes.reshape(header.samples, -1).view(f"<u{width}")
    return np.moveaxis(words.reshape(header.samples, header.rows, header.columns), 0, -1)


def _unpacked(segment: bytes, size: int) -> bytes:
    """A segment's runs, until `size` bytes are there (PS3.5 G.3.2). Raises PixelError where it ends before."""
    runs: list[bytes] = []
    held, at, end = 0, 0, len(segment)
    while held < size:
        if at + 1 >= end:
            raise PixelError(f"an RLE segment unpacks to {held} bytes, the image needs {size}")
        n = segment[at]
        if n < 128:
            run = segment[at + 1 : at + 2 + n]
            at += 2 + n
        elif n > 128:
            run = segment[at + 1 : at + 2] * (257 - n)
            at += 2
        else:
            at += 1
            continue
        runs.append(run)
        held += len(run)
    return b"".join(runs)[:size]


_SOF0, _SOF1, _SOF3, _SOF55 = 0xC0, 0xC1, 0xC3, 0xF7

CODECS: dict[str, _Codec] = {
    "1.2.840.10008.1.2.5": _Codec(_rle_header, _rle),
    "1.2.840.10008.1.2.4.50": _Codec(_jpeg(_SOF0), _with_libjpeg),
    "1.2.840.10008.1.2.4.51": _Codec(_jpeg(_SOF0, _SOF1), _with_gdcm),
    "1.2.840.10008.1.2.4.57": _Codec(_jpeg(_SOF3), _with_gdcm),
    "1.2.840.10008.1.2.4.70": _Codec(_jpeg(_SOF3, first_order=True), _with_gdcm),
    "1.2.840.10008.1.2.4.80": _Codec(_jpeg(_SOF55), _with_charls),
    "1.2.840.10008.1.2.4.81": _Codec(_jpeg(_SOF55), _with_charls),
    "1.2.840.10008.1.2.4.90": _Codec(_jpeg2000(high_throughput=False), _with_gdcm),
    "1.2.840.10008.1.2.4.91": _Codec(_jpeg2000(high_throughput=False), _with_gdcm),
    "1.2.840.10008.1.2.4.201": _Codec(_jpeg2000(high_throughput=True), _with_openjpeg),
    "1.2.840.10008.1.2.4.202": _Codec(_jpeg2000(high_throughput=True), _with_openjpeg),
    "1.2.840.10008.1.2.4.203": _Codec(_jpeg2000(high_throughput=True), _with_openjpeg),
}
"""By transfer syntax UID: RLE; JPEG Baseline, Extended, Lossless, Lossless SV1; JPEG-LS lossless, near-lossless; JPEG
2000 lossless, lossy; HTJ2K lossless, lossless RPCL, lossy."""
