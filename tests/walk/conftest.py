"""A site with an embedded archive, the shipped model published in it, signed and trusted: all real."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from residency.archives.folder import FolderArchive
from residency.assemble import open_house, open_site
from residency.models import publish, read_folder
from residency.pipeline import House
from residency.selection import shipped_rules
from residency.settings import Settings
from residency.site import Site
from residency.trust import Role, SigningKey, TrustedKey

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Ward:
    """An embedded archive with the shipped model, and the site beside it. Rules are not approved yet."""

    archive: FolderArchive
    site: Site
    settings: Settings
    model_digest: str
    key: SigningKey

    def approve_rules(self) -> None:
        """A person approves the rule that ships."""
        for rule in shipped_rules():
            self.site.approve_rules(rule.digest, by="A. Radiologist", now=NOW)

    def house(self) -> House:
        """The walk's hand luggage, as the command line makes it."""
        return open_house(self.settings, images=self.archive, models=self.archive)


def new_ward(folder: Path, package_folder: Path) -> Ward:
    """A new ward below `folder` with the package of a folder published, signed by a key that the site trusts."""
    settings = Settings(home=folder / "home", archive=str(folder / "archive"), threads=1)
    site = open_site(settings)
    archive = FolderArchive(folder / "archive")
    key = SigningKey.new()
    package = read_folder(package_folder)
    publish(archive, package, key)
    site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Test publisher", NOW))
    return Ward(archive, site, settings, package.digest, key)


@pytest.fixture
def ward(tmp_path: Path, repository: Path) -> Ward:
    """A ward of one's own."""
    return new_ward(tmp_path, repository / "models" / "hippocampus")


@pytest.fixture
def make_ward(repository: Path) -> Callable[[Path], Ward]:
    """Makes wards below folders of the caller's."""
    return lambda folder: new_ward(folder, repository / "models" / "hippocampus")


@pytest.fixture(scope="session")
def studies(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The two real MR studies, unpacked: study number -> folder."""
    unpacked = {}
    for number in (1, 2):
        folder = tmp_path_factory.mktemp(f"study{number}")
        with zipfile.ZipFile(shared_data / "dicom" / f"hippocampus_study{number}.zip") as packed:
            packed.extractall(folder)
        unpacked[number] = folder
    return unpacked
