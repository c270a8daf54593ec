"""A package as files: manifest.json and one file a payload, by name -> bytes. No disk here."""

from __future__ import annotations

from collections.abc import Mapping

from residency.errors import PackageError
from residency.package import MANIFEST_FILE, ModelPackage, parse_manifest, verified_package


def to_files(package: ModelPackage) -> dict[str, bytes]:
    """File name -> content. Payload names are strict, so they are safe as file names."""
    return {MANIFEST_FILE: package.manifest.text} | {p.name: p.data for p in package.payloads}


def from_files(files: Mapping[str, bytes]) -> ModelPackage:
    """The package, every payload compared with its digest. Files that the manifest does not list are ignored.

    Raises PackageError, ManifestError, CardError or DigestError.
    """
    if MANIFEST_FILE not in files:
        raise PackageError(f"this is no package: there is no {MANIFEST_FILE}; 'residency models build' makes one")
    return verified_package(parse_manifest(files[MANIFEST_FILE]), files)
