"""Archives are opened by path or URL, and what is not known is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.assemble import open_archive
from residency.errors import UsageError
from residency.settings import Settings


def test_an_archive_reopens_by_its_own_url_whatever_its_path(tmp_path: Path):
    settings = Settings(home=tmp_path / "home")
    made = open_archive(tmp_path / "a path with späces & 100%", settings)
    again = open_archive(made.url, settings, create=False)
    assert again.url == made.url


def test_without_a_name_the_archive_of_the_settings_is_meant(tmp_path: Path):
    settings = Settings(home=tmp_path / "home", archive=str(tmp_path / "archive"))
    assert open_archive(None, settings).url == (tmp_path / "archive").as_uri()


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://bucket"])
def test_doors_that_there_are_not_are_named(url: str, tmp_path: Path):
    with pytest.raises(UsageError, match="not known"):
        open_archive(url, Settings(home=tmp_path))


def test_no_archive_at_all_says_how_to_name_one(tmp_path: Path):
    with pytest.raises(UsageError, match="--archive PATH"):
        open_archive(None, Settings(home=tmp_path))


def test_a_place_that_can_never_be_an_archive_is_not_advised(tmp_path: Path):
    """The advice to import there would end in a refusal."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files: name another folder"):
        open_archive(tmp_path / "full", Settings(home=tmp_path), create=False)
    for create in (True, False):
        with pytest.raises(UsageError, match="is a file; an archive is a folder"):
            open_archive(tmp_path / "full" / "notes.txt", Settings(home=tmp_path), create=create)


def test_an_empty_folder_can_become_an_archive(tmp_path: Path):
    with pytest.raises(UsageError, match="'residency archive import FILES"):
        open_archive(tmp_path, Settings(home=tmp_path), create=False)


def test_a_missing_archive_is_not_made_where_one_is_only_read(tmp_path: Path):
    with pytest.raises(UsageError, match="is no archive"):
        open_archive(tmp_path / "absent", Settings(home=tmp_path), create=False)
    assert not (tmp_path / "absent").exists()
