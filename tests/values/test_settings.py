"""Settings are read once, strictly, and say where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.assemble import Role, archive_settings
from residency.engine import Precision
from residency.errors import ConfigError
from residency.settings import read_settings


def test_each_value_names_its_origin(tmp_path: Path):
    file = tmp_path / "residency.toml"
    file.write_text('threads = 1\nprecision = "bf16"\n')
    read = read_settings(file, {"RESIDENCY_THREADS": "2", "HOME": "/nowhere"})
    assert read.settings.threads == 2
    assert read.settings.precision is Precision.BF16
    assert read.origins["threads"] == "RESIDENCY_THREADS"
    assert read.origins["precision"] == str(file)
    assert read.origins["archive"] == "default"


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path):
    file = tmp_path / "residency.toml"
    file.write_text("thread = 1\n")
    with pytest.raises(ConfigError, match=r"unknown key 'thread', did you mean 'threads'\?"):
        read_settings(file, {})


def test_a_wrong_value_names_its_key_and_origin():
    with pytest.raises(ConfigError, match=r"threads \(from RESIDENCY_THREADS\)"):
        read_settings(None, {"RESIDENCY_THREADS": "many"})


@pytest.mark.parametrize("content", ["threads = ", "threads = 1\nthreads = 2"])
def test_malformed_files_are_refused_with_their_name(tmp_path: Path, content: str):
    file = tmp_path / "residency.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"residency\.toml is not valid TOML"):
        read_settings(file, {})


def test_a_missing_file_is_an_error_not_a_default(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(None, {"RESIDENCY_CONFIG": str(tmp_path / "absent.toml")})


def test_a_home_in_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder called "~" in whatever place the command was started from would trust nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "residency.toml"
    file.write_text('home = "~/residency"')
    assert read_settings(file, {}).settings.home == tmp_path / "residency"


def test_preferred_families_come_from_the_file_or_with_commas_from_the_environment(tmp_path: Path):
    file = tmp_path / "residency.toml"
    file.write_text('preferred = ["b", "a"]')
    assert read_settings(file, {}).settings.preferred == ("b", "a")
    assert read_settings(file, {"RESIDENCY_PREFERRED": "c, d"}).settings.preferred == ("c", "d")


ARCHIVES = """
archive = "pacs"
models = "library"

[archives.pacs]
url = "https://pacs.example/dicom-web"
user = "residency"
password_env = "PACS_PASSWORD"

[archives.library]
url = "dimse://127.0.0.1:4242/ORTHANC"
"""


def test_archives_have_names_and_roles(tmp_path: Path):
    file = tmp_path / "residency.toml"
    file.write_text(ARCHIVES)
    settings = read_settings(file, {}).settings
    assert archive_settings(None, settings, Role.IMAGES).url == "https://pacs.example/dicom-web"
    assert archive_settings(None, settings, Role.RESULTS) == settings.archives["pacs"]
    assert archive_settings(None, settings, Role.MODELS) == settings.archives["library"]
    assert archive_settings("library", settings, Role.IMAGES) == settings.archives["library"]
    assert archive_settings("/a/folder", settings, Role.MODELS).url == "/a/folder"


@pytest.mark.parametrize("key", ["archive", "images", "models", "results"])
def test_a_password_in_the_url_of_a_role_is_refused_before_anything_shows_it(key: str):
    """'residency config show' prints these values, and archives name themselves by their URL."""
    with pytest.raises(ConfigError, match="credentials do not belong into a URL") as raised:
        read_settings(None, {f"RESIDENCY_{key.upper()}": "https://residency:SECRET@pacs.example/"})
    assert "SECRET" not in str(raised.value)
    assert f"RESIDENCY_{key.upper()}" in str(raised.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "https://residency:SECRET@pacs.example/"', "credentials do not belong into a URL"),
        ('url = "https://pacs.example/"\nproxy = "http://me:SECRET@proxy.example"', "credentials do not belong"),
        ('url = "x"\nuser = "residency"', "belong together"),
        ('url = "x"\nuser = "a"\npassword_env = "A"\ntoken_env = "SECRET"', "give one of"),
        ('url = "x"\nusr = "SECRET"', "did you mean 'user'"),
        ('url = "x"\npassword = "SECRET"', "did you mean 'password_"),
        ('url = "x"\nae_title = "SEVENTEEN-LETTERS"', r"ae_title.*: an AE title has 1 to 16 printable"),
        ('url = "x"\nassociations = 0', "greater than or equal to 1"),
    ],
)
def test_a_wrong_archive_is_refused_without_repeating_a_secret(tmp_path: Path, lines: str, said: str):
    file = tmp_path / "residency.toml"
    file.write_text(f"[archives.pacs]\n{lines}\n")
    with pytest.raises(ConfigError, match=said) as raised:
        read_settings(file, {})
    assert "SECRET" not in str(raised.value)
    assert "archives.pacs" in str(raised.value)
