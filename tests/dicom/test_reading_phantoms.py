"""Phantoms: valid to a validator of IODs, the same every time, and changed by any attribute."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
import pytest

from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Volume, regular_grid


def _volume() -> Volume:
    values = np.random.default_rng(0).integers(0, 900, (3, 5, 6)).astype(np.float32)
    return Volume(values, regular_grid((3, 5, 6), (2.5, 0.3, 1 / 3)))


@pytest.mark.parametrize("inverse", [False, True])
def test_a_validator_finds_no_error(dciodvfy: Callable[[bytes], list[str]], inverse: bool) -> None:
    for data in (
        mr_series(_volume())[0],
        ct_series(_volume())[1],
        radiograph(np.eye(9, dtype=np.uint16), inverse=inverse),
    ):
        assert dciodvfy(data) == []


def test_equal_arguments_give_equal_bytes_and_others_other_uids() -> None:
    assert mr_series(_volume()) == mr_series(_volume())
    other = Volume(_volume().array + 1, _volume().grid)
    variants = [
        mr_series(_volume()),
        mr_series(other),
        mr_series(_volume(), series="b"),
        mr_series(_volume(), study="b"),
        mr_series(_volume(), PatientID="B"),
        mr_series(_volume(), ProtocolName="b"),
    ]
    uids = [pydicom.dcmread(BytesIO(data)).SOPInstanceUID for files in variants for data in files]
    assert len(set(uids)) == len(uids)


def test_series_of_one_study_share_it() -> None:
    found = {
        pydicom.dcmread(BytesIO(data)).StudyInstanceUID
        for data in (mr_series(_volume())[0], ct_series(_volume())[0], radiograph(np.eye(4, dtype=np.uint16)))
    }
    assert len(found) == 1


def test_attributes_are_set_and_taken_out_by_keyword() -> None:
    (data, *_) = mr_series(_volume(), SeriesDescription="HippoCrop", BodyPartExamined=None, PatientName="Müller^Jörg")
    dataset = pydicom.dcmread(BytesIO(data))
    assert (dataset.SeriesDescription, dataset.PatientName) == ("HippoCrop", "Müller^Jörg")
    assert "BodyPartExamined" not in dataset


def test_what_cannot_be_stored_exactly_is_refused() -> None:
    grid = regular_grid((1, 2, 2), (1.0, 1.0, 1.0))
    for value in (0.5, 40_000.0, float("nan")):
        with pytest.raises(ValueError, match="whole numbers"):
            mr_series(Volume(np.full((1, 2, 2), value, np.float32), grid))
    sheared = np.array(grid.affine)
    sheared[1, 0] = 0.5
    with pytest.raises(ValueError, match="not upright"):
        mr_series(Volume(np.zeros((1, 2, 2), np.float32), Grid((1, 2, 2), sheared)))
    with pytest.raises(ValueError, match="4095"):
        radiograph(np.full((2, 2), 5000, np.uint16))
