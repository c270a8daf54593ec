"""A package in a folder, and the local cache of fetched packages; both verified like anything from outside."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from residency.errors import PackageError, ResidencyError
from residency.files.package import from_files, to_files
from residency.models.check import check_package
from residency.package import LARGEST_MANIFEST, MANIFEST_FILE, ModelPackage, parse_manifest

LARGEST_PACKAGE = 1 << 30
"""Most bytes that all payloads of a package have together."""
_CHECKED = "checked-2"
"""Marks an entry of the cache that passed `check_package`; renamed whenever the checks change."""


def read_folder(folder: Path) -> ModelPackage:
    """The package in a folder: its manifest and the files that it lists, each read up to its listed length only.

    Raises PackageError, ManifestError, CardError or DigestError.
    """
    files = {MANIFEST_FILE: read_bounded(folder / MANIFEST_FILE, LARGEST_MANIFEST)}
    manifest = parse_manifest(files[MANIFEST_FILE])
    total = sum(entry.length for entry in manifest.payloads)
    if total > LARGEST_PACKAGE:
        raise PackageError(f"the payloads of {folder} have {total} bytes, at most {LARGEST_PACKAGE} are read")
    for entry in manifest.payloads:
        files[entry.name] = read_bounded(folder / entry.name, entry.length)
    return from_files(files)


def write_folder(folder: Path, package: ModelPackage) -> None:
    """Write the package into a folder, which is made if it is not there; the manifest last. Raises PackageError."""
    write_files(folder, to_files(package))


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by path below a folder, which is made if it is not there; a manifest last. Raises PackageError."""
    try:
        for name in sorted(files, key=lambda n: n.endswith(MANIFEST_FILE)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _write(folder / name, files[name])
    except OSError as error:
        raise PackageError(f"the package cannot be written to {folder}: {error.strerror}") from None


@dataclass(frozen=True)
class PackageCache:
    """Fetched packages by digest in a folder. Verified again whenever one is opened; may be thrown away at any time."""

    folder: Path

    def get(self, digest: str) -> ModelPackage | None:
        """The verified and checked package, or None. A damaged entry is removed."""
        entry = self._entry(digest)
        if not entry.is_dir():
            return None
        try:
            package = read_folder(entry)
            if package.digest != digest:
                raise PackageError(f"the cache holds {package.digest} under {digest}")
            if not (entry / _CHECKED).exists():
                check_package(package)
                (entry / _CHECKED).touch()
        except (ResidencyError, OSError):
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return package

    def put(self, package: ModelPackage) -> None:
        """Keep a package that was checked. A full or read-only disk is no error: it is a cache."""
        try:
            private_folder(self.folder)
            made = Path(tempfile.mkdtemp(prefix="incoming-", dir=self.folder))
        except OSError:
            return
        try:
            write_folder(made, package)
            (made / _CHECKED).touch()
            made.rename(self._entry(package.digest))
        except (OSError, PackageError):
            shutil.rmtree(made, ignore_errors=True)

    def _entry(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, each for its owner alone. Raises OSError.

    The caches lie in the folder of the site's decisions and may well be what makes it: whoever can write there can
    exchange what the site trusts.
    """
    for missing in reversed((folder, *folder.parents)):
        missing.mkdir(mode=0o700, exist_ok=True)


def read_bounded(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes. Raises PackageError naming it."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise PackageError(f"{path} is longer than the {most} bytes that are listed or read at most")
    return data


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".incoming-", dir=path.parent)
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.chmod(0o644)
        made.replace(path)
    except OSError:
        made.unlink(missing_ok=True)
        raise
