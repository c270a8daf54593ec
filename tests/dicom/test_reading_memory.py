"""Reading is bounded: what came in, encoded, and the float32 volume; nothing is decoded before it is asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from residency.dicom.series import open_series
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import ct_series
from residency.volume import Volume, regular_grid

SHAPE = (30, 256, 256)
VOLUME_BYTES = 4 * int(np.prod(SHAPE))
SLACK = 3_000_000
"""Headers, and the few slices that are on their way at once."""


@pytest.fixture(scope="module")
def series() -> list[bytes]:
    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.float32)
    return ct_series(Volume(values, regular_grid(SHAPE, (2.0, 1.0, 1.0), frame_of_reference="1.2")))


def _rle(data: bytes) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    dataset.compress(RLELossless, generate_instance_uid=False)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


FORMS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "single frames": lambda files: files,
    "single frames, RLE": lambda files: [_rle(data) for data in files],
    "one enhanced instance": lambda files: [enhanced(files)],
    "one enhanced instance, RLE": lambda files: [_rle(enhanced(files))],
}


@pytest.mark.parametrize("form", FORMS)
def test_memory_holds_the_encoded_series_and_one_volume(series: list[bytes], form: str) -> None:
    files = FORMS[form](series)
    encoded = sum(map(len, files))
    open_series(files[:1]).volume()  # what is imported and started with the first image is no part of it

    def received() -> Iterator[bytes]:
        """As an archive gives them: each is let go when the next is asked for."""
        yield from (bytes(bytearray(data)) for data in files)

    tracemalloc.start()
    try:
        source = open_series(received())
        opened, parsing = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        volume = source.volume()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert volume.array.shape == SHAPE
    assert opened < encoded + SLACK
    assert parsing < encoded + max(map(len, files)) + SLACK
    assert peak < encoded + VOLUME_BYTES + SLACK
