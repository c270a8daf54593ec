"""The models of an archive: find, fetch, verify, admit, publish."""

from residency.models.admit import Admission, Replay, admit, runs_on
from residency.models.build import build
from residency.models.check import check_package
from residency.models.fetch import fetch
from residency.models.find import KnownModel, Library, find_models
from residency.models.folder import PackageCache, read_folder, write_files, write_folder
from residency.models.index import ModelIndex
from residency.models.publish import Published, publish, publish_statement

__all__ = [
    "Admission",
    "KnownModel",
    "Library",
    "ModelIndex",
    "PackageCache",
    "Published",
    "Replay",
    "admit",
    "build",
    "check_package",
    "fetch",
    "find_models",
    "publish",
    "publish_statement",
    "read_folder",
    "runs_on",
    "write_files",
    "write_folder",
]
