"""Archives are opened by path or URL, and what is not known is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.assemble import archive_settings, open_archive
from residency.errors import UsageError
from residency.settings import ArchiveSettings, Settings


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


PACS = Settings(
    home=Path("nowhere"),
    images="pacs",
    archives={
        "pacs": ArchiveSettings(url="http://127.0.0.1:9/dicom-web/", user="me", password_env="PACS"),
        "library": ArchiveSettings(url="dimse://127.0.0.1:9/ANY"),
    },
)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("pcas", r"archive .* called 'pcas': did you mean 'pacs'\? .*\./pcas"),
        ("nosuch", r"archive .* called 'nosuch': known are library, pacs\. .*\./nosuch"),
        ("models", "called 'models'"),
    ],
)
def test_a_mistyped_name_makes_no_folder_of_patients(
    named: str, said: str, create: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        open_archive(named, PACS, create=create)
    with pytest.raises(UsageError, match=said):
        open_archive(None, PACS.model_copy(update={"archive": named}), create=create)
    assert not list(tmp_path.iterdir())


def test_a_folder_archive_is_made_under_a_path_and_afterwards_found_by_its_bare_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    made = open_archive("./mine", PACS)
    assert open_archive("mine", PACS, create=False).url == made.url
    assert open_archive(Path("other"), PACS).url == (tmp_path / "other").as_uri()


def test_a_role_names_its_archive():
    assert archive_settings("images", PACS) == PACS.archives["pacs"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_url_of_a_described_archive_means_its_table_with_its_credentials(slash: str):
    assert archive_settings(f"http://127.0.0.1:9/dicom-web{slash}", PACS) == PACS.archives["pacs"]
    assert archive_settings("http://127.0.0.1:9/dicom", PACS).user is None


def test_a_url_that_two_tables_describe_is_not_guessed():
    twice = PACS.model_copy(update={"archives": {**PACS.archives, "again": PACS.archives["library"]}})
    with pytest.raises(UsageError, match="name one of again, library"):
        archive_settings("dimse://127.0.0.1:9/ANY", twice)
