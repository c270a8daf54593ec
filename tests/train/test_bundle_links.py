"""No file of a bundle's folder is read through a link that leads out of it, whichever way it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import InputError, UsageError
from residency.train.importing.bundle import METADATA, STATES, Bundle, open_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    place = tmp_path / "bundle"
    (place / "configs").mkdir(parents=True)
    (place / "models").mkdir()
    (place / METADATA).write_text("{}")
    with open_bundle(place) as opened:
        return opened


def test_a_link_out_of_the_folder_is_refused_by_each_way_in(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of another")
    (bundle.place / STATES[0]).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        bundle.has(STATES[0])
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        bundle.read(STATES[0])
    with pytest.raises(InputError, match="a link that leads out of the folder"), bundle.file(STATES[0]):
        pass


def test_a_link_within_the_folder_is_followed_and_a_loop_is_no_file(bundle: Bundle) -> None:
    (bundle.place / "models/first.pt").write_bytes(b"own")
    (bundle.place / STATES[1]).symlink_to("first.pt")
    assert bundle.has(STATES[1])
    assert bundle.read(STATES[1]) == b"own"
    with bundle.file(STATES[1]) as file:
        assert file.read_bytes() == b"own"
    loop = bundle.place / STATES[2]
    loop.symlink_to(loop.name)
    assert not bundle.has(STATES[2])
    with pytest.raises(UsageError, match="cannot be read"):
        bundle.read(STATES[2])
