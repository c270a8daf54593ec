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

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_JPEG = tuple(f"1.2.840.10008.1.2.4.{k}" for k in (50, 51, 57, 70))
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_RLE = "1.2.840.10008.1.2.5"

_NUMBERS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


@dataclass(frozen=True, eq=False)
class JudgedPixels:
    """judge: who read it; values: stored values, int64, (frames, rows, columns) or (frames, rows, columns, samples)."""

    judge: str
    values: npt.NDArray[np.int64]


def judged_pixels(data: bytes, folder: Path) -> JudgedPixels | None:
    """Pixel Data of an instance in DICOM's file format; None where no independent decoder is known.

    folder  for files that the tools write
    """
    source = folder / "source.dcm"
    source.write_bytes(data)
    syntax = _syntax(source)
    plain = folder / "plain.dcm"
    if syntax in _JPEG_2000:
        return JudgedPixels("OpenJPEG", _with_openjpeg(data))
    if syntax in _NATIVE:
        tool = ["dcmconv", "+te"]
    elif syntax in _JPEG:
        tool = ["dcmdjpeg", "+cn", "+px"]
    elif syntax in _JPEG_LS:
        tool = ["dcmdjpls"]
    elif syntax == _RLE:
        tool = ["dcmdrle"]
    else:
        return None
    _run(*tool, str(source), str(plain))
    return JudgedPixels("DCMTK", _raw(plain, folder))


def judge_missing() -> str:
    """Which tool is not installed; "" if all are."""
    tools = ("dcmconv", "dcmdump", "dcmdjpeg", "dcmdjpls", "dcmdrle")
    return next((f"{tool} missing: apt install dcmtk" for tool in tools if shutil.which(tool) is None), "")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def _syntax(file: Path) -> str:
    found = re.search(r"^\(0002,0010\) UI \[([0-9.]+)", _run("dcmdump", "-Un", "+P", "0002,0010", str(file)), re.M)
    return found[1] if found else ""


def _numbers(file: Path) -> dict[str, int]:
    asked = [part for name in (*_NUMBERS, "PlanarConfiguration") for part in ("+P", name)]
    found = re.findall(r"^\(\S+\) \w\w \[?(\d+)\]?.*#.* (\w+)\s*$", _run("dcmdump", "-s", *asked, str(file)), re.M)
    numbers: dict[str, int] = {}
    for value, name in found:
        numbers.setdefault(name, int(value))
    return numbers


def _raw(file: Path, folder: Path) -> npt.NDArray[np.int64]:
    """Pixel Data of an uncompressed little-endian file, as DCMTK writes them out."""
    with tempfile.TemporaryDirectory(dir=folder) as raw:
        _run("dcmdump", "+W", raw, str(file))
        # Overlays and tables are written too; the pixels are the largest.
        held = max(Path(raw).iterdir(), key=lambda path: path.stat().st_size).read_bytes()
    numbers = _numbers(file)
    frames, samples = numbers.get("NumberOfFrames", 1), numbers.get("SamplesPerPixel", 1)
    size = frames * numbers["Rows"] * numbers["Columns"] * samples
    words = np.frombuffer(held, f"<u{numbers['BitsAllocated'] // 8}", count=size).astype(np.int64)
    values = _signed(words, numbers["BitsStored"], signed=numbers["PixelRepresentation"] == 1)
    if samples == 1:
        return values.reshape(frames, numbers["Rows"], numbers["Columns"])
    if numbers.get("PlanarConfiguration") == 1:
        return np.moveaxis(values.reshape(frames, samples, numbers["Rows"], numbers["Columns"]), 1, -1)
    return values.reshape(frames, numbers["Rows"], numbers["Columns"], samples)


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
