"""Mutated instances of every transfer syntax: only our own errors come out, within bounds of time and memory.

What was found this way is kept under `found/`, each as the bytes that did it.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jpeg_ls
import numpy as np
import pytest
from openjpeg.utils import encode_array

from residency.dicom import decoders
from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.errors import InputError
from residency.testing.encodings import compressed, instance, rle_stream, texture, with_dcmtk, written
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import mr_series, radiograph
from residency.testing.pixel_judge import judge_missing
from residency.volume import Volume, regular_grid

HERE = Path(__file__).parent
FOUND = {
    "charls_spins": "did not come to an end|gives up",  # 3 s of CPU for 40 x 48 pixels; a fast machine may manage
    "gdcm_aborts_lossless": r"its decoder crashed \(SIGABRT\)",
}
"""What came out of the fuzzer, and how it ends now."""

MEGABYTES = 700
"""Most memory of the reading process: Python with its libraries has 150; a case of 3 kB must not need much more."""

DCMTK = {
    "big_endian": ("dcmconv", "+tb"),
    "implicit": ("dcmconv", "+ti"),
    "deflated": ("dcmconv", "+td"),
    "lossless": ("dcmcjpeg", "+el", "+sv", "6"),
    "lossless_sv1": ("dcmcjpeg", "+e1"),
    "extended": ("dcmcjpeg", "+ee"),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Small instances, one a transfer syntax, and some of other kinds."""
    if judge_missing():
        pytest.skip(judge_missing())
    values = texture(24, 20).astype("u2")
    frames = np.stack([values, values[::-1]])
    plain = written(instance(values, bits_stored=12))
    precise = texture(64, 64).astype("u2")
    stream_2000 = bytes(encode_array(precise, bits_stored=12, photometric_interpretation=2))
    stream_ls = [bytes(jpeg_ls.encode_array(frame)) for frame in frames]
    near = bytes(jpeg_ls.encode_array(values, lossy_error=3))
    high = (repository / "tests" / "golden" / "htj2k" / "unsigned_12.j2c").read_bytes()
    volume = Volume(np.stack([values, values]).astype(np.float32), regular_grid((2, 24, 20), (2.0, 1.0, 0.5)))
    floats = instance(values.astype("u4"), bits_stored=32)
    floats.FloatPixelData = np.linspace(-1, 1, 480, dtype="<f4").tobytes()
    del floats.PixelData
    made = {
        "plain": plain,
        "signed": written(instance(values.astype("i2"), bits_stored=16, PixelPaddingValue=-2000)),
        "float": written(floats),
        "rle": compressed(instance(values, bits_stored=12), "1.2.840.10008.1.2.5", [rle_stream(values)]),
        "jpeg_ls": compressed(
            instance(frames[0], bits_stored=12), "1.2.840.10008.1.2.4.80", stream_ls[:1], fragments=2
        ),
        "jpeg_ls_near": compressed(instance(values, bits_stored=12), "1.2.840.10008.1.2.4.81", [near]),
        "jpeg_2000": compressed(instance(precise, bits_stored=12), "1.2.840.10008.1.2.4.90", [stream_2000]),
        "htj2k": compressed(instance(values, bits_stored=16), "1.2.840.10008.1.2.4.201", [high]),
        "enhanced": enhanced(mr_series(volume)),
        "radiograph": radiograph(texture(24, 20).astype(np.uint16)),
    }
    folder = tmp_path_factory.mktemp("work")
    baseline = written(instance((values >> 4).astype("u1"), bits_stored=8))
    made["baseline"] = with_dcmtk(baseline, folder, "dcmcjpeg", "+eb")
    made |= {name: with_dcmtk(plain, folder, *command) for name, command in DCMTK.items()}
    target = tmp_path_factory.mktemp("seeds")
    for name, data in made.items():
        (target / f"{name}.dcm").write_bytes(data)
        open_series([data]).volume()
    return target


def _fuzz(seeds: Path, place: Path, seed: int, first: int, count: int) -> subprocess.Popen[str]:
    place.write_bytes(bytes(8))
    command = [sys.executable, str(HERE / "fuzz_reading.py"), str(seeds), str(place), *map(str, (seed, first, count))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _outcome(running: subprocess.Popen[str], place: Path) -> dict[str, float]:
    said, complaint = running.communicate()
    number = struct.unpack("<Q", place.read_bytes())[0]
    assert running.returncode == 0, f"case {number} ended the process with {running.returncode}:\n{complaint[-3000:]}"
    outcome: dict[str, float] = json.loads(said.splitlines()[-1])
    assert outcome["megabytes"] < MEGABYTES, outcome
    return outcome


def _check(outcomes: Sequence[dict[str, float]], count: int) -> None:
    """A fuzzer that never reads, or never is refused, mutates wrongly."""
    refused, read = (sum(outcome[name] for outcome in outcomes) for name in ("refused", "read"))
    assert refused + read == count
    assert refused > count * 0.2
    assert read > count * 0.1


def test_mutated_instances_are_read_or_refused(seeds: Path, tmp_path: Path) -> None:
    _check([_outcome(_fuzz(seeds, tmp_path / "at", 1, 0, 2_000), tmp_path / "at")], 2_000)


@pytest.mark.slow
def test_a_hundred_thousand_mutated_instances_are_read_or_refused(seeds: Path, tmp_path: Path) -> None:
    """Two processes side by side, in parts, so that what libraries hold on to does not add up."""
    outcomes, part = [], 5_000
    for first in range(0, 100_000, 2 * part):
        places = [tmp_path / "at0", tmp_path / "at1"]
        running = [_fuzz(seeds, place, 2, first + k * part, part) for k, place in enumerate(places)]
        try:
            outcomes += [_outcome(one, place) for one, place in zip(running, places, strict=True)]
        finally:
            for one in running:
                one.kill()
                one.communicate()
    _check(outcomes, 100_000)


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "LEAST_SECONDS", 0.5)
    data = (HERE / "found" / f"{name}.dcm").read_bytes()
    read_labels([data])
    with pytest.raises(InputError, match=FOUND[name]):
        open_series([data]).volume()


def test_everything_found_has_its_outcome() -> None:
    assert {path.stem for path in (HERE / "found").glob("*.dcm")} == set(FOUND)
