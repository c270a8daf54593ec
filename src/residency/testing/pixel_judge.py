"""The stored values of an image as somebody else reads them: DCMTK, or for JPEG 2000 another decoder than ours.

For tests that must not judge our reading by itself. Sizes come from DCMTK's dump, frames from its raw output; our own
room is not asked. Needs the command line tools of DCMTK.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames

_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{k}" for k in (50, 51, 57, 70))
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, eq=False)
class JudgedPixels:
    """judge: who read it; values: stored values, int64, (frames, rows, columns) or (frames, rows, columns, samples)."""

    judge: str
    values: npt.NDArray[np.int64]


def judged_pixels(data: bytes, folder: Path) -> JudgedPixels | None:
    """Pixel Data of an instance in DICOM's file format; None where no independent decoder is known.

    folder  for files that the tools write
    """
    source, plain = folder / "source.dcm", folder / "plain.dcm"
    source.write_bytes(data)
    seen = _seen(source, folder)
    if seen.syntax in _JPEG_2000:
        return JudgedPixels("OpenJPEG", _with_openjpeg(data))
    if seen.syntax in _PLAIN:
        return JudgedPixels("DCMTK", _values(seen))
    if seen.syntax == _BIG_ENDIAN:
        tool = ["dcmconv", "+te"]
    elif seen.syntax in _JPEG:
        tool = ["dcmdjpeg", "+cn", "+px"]
    elif seen.syntax in _JPEG_LS:
        tool = ["dcmdjpls"]
    elif seen.syntax == _RLE:
        tool = ["dcmdrle"]
    else:
        return None
    _run(*tool, str(source), str(plain))
    return JudgedPixels("DCMTK", _values(_seen(plain, folder)))


def judge_missing() -> str:
    """Which tool is not installed; "" if all are."""
    tools = ("dcmconv", "dcmdump", "dcmdjpeg", "dcmdjpls", "dcmdrle")
    return next((f"{tool} missing: apt install dcmtk" for tool in tools if shutil.which(tool) is None), "")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True, eq=False)
class _Seen:
    """What dcmdump says of a file: transfer syntax, numbers by keyword, and the largest raw value: Pixel Data."""

    syntax: str
    numbers: dict[str, int]
    raw: bytes


def _seen(file: Path, folder: Path) -> _Seen:
    with tempfile.TemporaryDirectory(dir=folder) as raw:
        text = _run("dcmdump", "-Un", "+W", raw, str(file))
        held = [path.read_bytes() for path in Path(raw).iterdir()]
    # Elements at the top begin their lines; those of items are indented.
    numbers = re.findall(r"^\(\S+\) (?:US|IS) \[?(\d+)\]? .*# .* (\w+)\s*$", text, re.M)
    syntax = re.search(r"^\(0002,0010\) UI \[([0-9.]+)", text, re.M)
    return _Seen(
        syntax=syntax[1] if syntax else "",
        numbers={keyword: int(value) for value, keyword in reversed(numbers)},
        raw=max(held, key=len, default=b""),
    )


def _values(seen: _Seen) -> npt.NDArray[np.int64]:
    """Stored values of uncompressed little-endian pixels."""
    frames, samples = seen.numbers.get("NumberOfFrames", 1), seen.numbers.get("SamplesPerPixel", 1)
    rows, columns, bits = (seen.numbers[name] for name in ("Rows", "Columns", "BitsAllocated"))
    words = np.frombuffer(seen.raw, f"<u{bits // 8}", count=frames * rows * columns * samples).astype(np.int64)
    values = _signed(words, seen.numbers["BitsStored"], signed=seen.numbers["PixelRepresentation"] == 1)
    if samples == 1:
        return values.reshape(frames, rows, columns)
    if seen.numbers.get("PlanarConfiguration") == 1:
        return np.moveaxis(values.reshape(frames, samples, rows, columns), 1, -1)
    return values.reshape(frames, rows, columns, samples)


def _signed(words: npt.NDArray[np.int64], bits: int, *, signed: bool) -> npt.NDArray[np.int64]:
    values = words & ((1 << bits) - 1)
    return np.where(values >> (bits - 1) == 1, values - (1 << bits), values) if signed else values


def _with_openjpeg(data: bytes) -> npt.NDArray[np.int64]:
    from openjpeg.utils import decode

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        count = int(dataset.get("NumberOfFrames") or 1)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    values = np.stack([decode(frame) for frame in frames]).astype(np.int64)
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    return _signed(values, bits, signed=signed)
