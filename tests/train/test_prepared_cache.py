"""Prepared cases on disk: the same bits as without, never stale, not believed when damaged, no larger than said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from residency.datasets import Case, read_cases
from residency.datasets import cache as cache_module
from residency.datasets.cache import PreparedCache, PreparedCase, read_prepared
from residency.errors import TrainingError
from residency.recipe import Recipe, Step

RECIPE = Recipe(steps=(Step(name="orient", parameters={"letters": "SPL"}), Step(name="normalise", parameters={})))


def _same(one: PreparedCase, other: PreparedCase) -> bool:
    assert one.labels is not None
    assert other.labels is not None
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


@pytest.fixture
def data(small_set: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_set, tmp_path / "data")


def test_a_kept_case_has_the_same_bits(data: Path, tmp_path: Path) -> None:
    cases = read_cases(data)[:3]
    kept = PreparedCache(tmp_path / "kept", 2**30)
    plain = [read_prepared(case, RECIPE, 3) for case in cases]
    first = [read_prepared(case, RECIPE, 3, kept) for case in cases]
    assert kept.found == 0
    again = [read_prepared(case, RECIPE, 3, kept) for case in cases]
    assert kept.found == 3
    assert all(_same(a, b) and _same(a, c) for a, b, c in zip(plain, first, again, strict=True))
    assert again[0].images.flags.writeable  # torch takes it as it is
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "kept").iterdir()} == {0o600}
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_another_image_recipe_or_code_is_another_case(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = read_cases(data)
    kept = PreparedCache(tmp_path / "kept", 2**30)
    read_prepared(cases[0], RECIPE, 3, kept)
    read_prepared(cases[0], Recipe(steps=RECIPE.steps[:1]), 3, kept)
    for file in ("image", "reference"):
        place = getattr(cases[0], file)
        place.write_bytes(getattr(cases[1 if file == "image" else 0], file).read_bytes() + b"\0")
    assert isinstance(cases[1].reference, Path)
    assert isinstance(cases[0].reference, Path)
    shutil.copy(cases[1].reference, cases[0].reference)
    changed = read_prepared(cases[0], RECIPE, 3, kept)
    assert _same(changed, read_prepared(cases[1], RECIPE, 3))
    monkeypatch.setattr(cache_module, "_code", lambda: "another version")
    read_prepared(cases[0], RECIPE, 3, kept)
    assert kept.found == 0
    assert kept.damaged == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "line", "shapes", "foreign"])
def test_a_damaged_file_is_noticed_and_made_anew(data: Path, tmp_path: Path, damage: str) -> None:
    case = read_cases(data)[0]
    kept = PreparedCache(tmp_path / "kept", 2**30)
    right = read_prepared(case, RECIPE, 3, kept)
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    file.write_bytes(
        {
            "cut": whole[:-1],
            "flip": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
            "empty": b"",
            "line": b"[" * 4000 + whole,
            "shapes": whole.replace(b'"shapes": [[1, ', b'"shapes": [[-1, '),
            "foreign": whole.replace(file.stem.encode(), b"0" * 64),
        }[damage]
    )
    assert file.read_bytes() != whole
    assert _same(read_prepared(case, RECIPE, 3, kept), right)
    assert (kept.damaged, kept.found) == (1, 0)
    assert file.read_bytes() == whole


def test_what_was_not_used_for_longest_goes_first(data: Path, tmp_path: Path) -> None:
    one, two, three = read_cases(data)[:3]
    sizes = PreparedCache(tmp_path / "sizes", 2**30)
    for case in (one, two, three):
        read_prepared(case, RECIPE, 3, sizes)
    total = sum(file.stat().st_size for file in (tmp_path / "sizes").iterdir())
    kept = PreparedCache(tmp_path / "kept", total - 1)
    for case in (one, two):
        read_prepared(case, RECIPE, 3, kept)
    for file in (tmp_path / "kept").iterdir():
        os.utime(file, (1, 1))
    read_prepared(one, RECIPE, 3, kept)
    read_prepared(three, RECIPE, 3, kept)
    assert sum(file.stat().st_size for file in (tmp_path / "kept").iterdir()) < total
    read_prepared(one, RECIPE, 3, kept)
    read_prepared(three, RECIPE, 3, kept)
    assert kept.found == 3


def test_a_case_that_is_larger_than_all_is_not_kept(data: Path, tmp_path: Path) -> None:
    kept = PreparedCache(tmp_path / "kept", 100)
    read_prepared(read_cases(data)[0], RECIPE, 3, kept)
    assert not list((tmp_path / "kept").iterdir())


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot be used: .*data\.cache"):
        PreparedCache(tmp_path / "file", 100)


def test_several_images_become_channels_and_no_reference_no_labels(data: Path, tmp_path: Path) -> None:
    case = read_cases(data)[0]
    several = Case("c0", "p0", "train", {"t1": case.image, "again": case.image}, labels={"finding": 1})
    kept = PreparedCache(tmp_path / "kept", 2**30)
    for _ in range(2):
        made = read_prepared(several, RECIPE, 3, kept)
        assert made.labels is None
        assert made.images.shape[0] == 2
        assert np.array_equal(made.images[0], made.images[1])
    assert kept.found == 1


def test_a_case_that_cannot_be_prepared_is_named(data: Path) -> None:
    case = read_cases(data)[0]
    assert isinstance(case.image, Path)
    case.image.write_bytes(b"no image")
    with pytest.raises(TrainingError, match=rf"case 'c0': {case.image} cannot be read: this is not a NIfTI file"):
        read_prepared(case, RECIPE, 3)
