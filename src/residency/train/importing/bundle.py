"""The files of a MONAI bundle, from its folder or zip: read by fixed names, bounded, never unpacked as they lie.

After the MONAI Bundle Specification (docs.monai.io/en/stable/mb_specification.html).
"""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from residency.errors import InputError, UsageError
from residency.nets.weights import LARGEST_FILE
from residency.train.importing.reading import LARGEST_JSON, plain_text

METADATA = "configs/metadata.json"
CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
GRAPHS = ("models/model.onnx",)
STATES = ("models/model.safetensors", "models/model.pt", "models/model.pth")
SCRIPTS = ("models/model.ts",)
LICENCES = ("LICENSE", "docs/license.txt", "docs/LICENSE")
_SMALL = 1 << 20
_LIMITS = {METADATA: LARGEST_JSON} | dict.fromkeys(CONFIGS, LARGEST_JSON)
_LIMITS |= dict.fromkeys((*GRAPHS, *STATES), LARGEST_FILE) | dict.fromkeys(LICENCES, _SMALL)

_MOST_ENTRIES = 10_000
_MOST_PACKED = 200
"""Bytes that one packed byte may become; weights hardly shrink, JSON by some 20."""


class Bundle:
    """Opened by `open_bundle`. `name` is the folder's, or the root's inside the zip."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.name = plain_text(place.stem if place.is_file() else place.resolve().name, 100)
        self._zip: zipfile.ZipFile | None = None
        self._root = ""

    def has(self, name: str) -> bool:
        """Whether a file of that name is there. Raises InputError for a link that leads out of the folder."""
        if self._zip is None:
            return self._inside(name).is_file()
        return f"{self._root}{name}" in self._zip.namelist()

    def _inside(self, name: str) -> Path:
        """The place of a name in the folder. Raises InputError where a link leads out of it."""
        file = self.place / name
        if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self.place)):  # which loops do not stop
            raise InputError(
                f"{self.place}: '{name}' is a link that leads out of the folder, to what may not be the bundle's; "
                "give a copy of the bundle without links (cp -rL)"
            )
        return file

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of these that is there."""
        return next((name for name in names if self.has(name)), None)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of one of the names above, or of another with a limit of its own.

        Raises InputError for one that is too long, damaged, or a link that leads out of the folder.
        """
        limit = _LIMITS[name] if limit is None else limit
        try:
            if self._zip is None:
                with self._inside(name).open("rb") as opened:
                    data = opened.read(limit + 1)
            else:
                entry = self._zip.getinfo(f"{self._root}{name}")
                if entry.file_size > limit or entry.file_size > _MOST_PACKED * max(entry.compress_size, 1):
                    raise InputError(f"{self.place}: '{name}' would unpack to {entry.file_size} bytes: refused")
                with self._zip.open(entry) as packed:
                    data = packed.read(limit + 1)
        except (OSError, KeyError) as error:
            raise UsageError(f"{self.place}: '{name}' cannot be read: {error}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise InputError(
                f"{self.place}: '{name}' is damaged or packed in a way that is not read: {error}"
            ) from None
        if len(data) > limit:
            raise InputError(f"{self.place}: '{name}' is longer than the {limit} bytes that are read")
        return data

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """The file itself, for a reader that wants one; out of a zip, a copy under a name of our own.

        Raises InputError as `read` does.
        """
        if self._zip is None:
            yield self._inside(name)
            return
        with tempfile.TemporaryDirectory(prefix="residency-") as folder:
            copy = Path(folder) / f"weights{PurePosixPath(name).suffix}"
            copy.write_bytes(self.read(name))
            yield copy


@contextmanager
def open_bundle(place: Path) -> Iterator[Bundle]:
    """A bundle's folder, or its zip.

    Raises UsageError for what is neither, InputError, in words, for TorchScript and for a zip that is not plain: names
    that leave the folder, links, names that are there twice.
    """
    bundle = Bundle(place)
    if place.is_dir():
        _must_have_metadata(bundle)
        yield bundle
        return
    if not place.is_file() or not zipfile.is_zipfile(place):
        raise UsageError(f"{place} is no MONAI bundle: give its folder, or its zip, with {METADATA} inside")
    try:
        opened = zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{place} is no zip that can be read: {str(error)[:200]}") from None
    with opened:
        _check(opened, place)
        bundle._zip = opened
        roots = {name.removesuffix(METADATA) for name in opened.namelist() if name.endswith(METADATA)}
        if len(roots) > 1 or any(root.count("/") > 1 for root in roots):
            raise InputError(f"{place} holds several {METADATA}: pack one bundle, with one root folder at most")
        bundle._root = roots.pop() if roots else ""
        bundle.name = bundle._root.rstrip("/") or bundle.name
        _must_have_metadata(bundle)
        yield bundle


def _check(opened: zipfile.ZipFile, place: Path) -> None:
    entries = opened.infolist()
    names = [entry.filename for entry in entries]
    if any(name.split("/")[-1] in ("constants.pkl", "data.pkl") for name in names):
        raise InputError(
            f"{place} is TorchScript or a file of torch.save: its network is pickled code and is not opened. Give the "
            "bundle that it was made from, with models/model.onnx or a state dict"
        )
    odd = [
        name
        for name in names
        if name.startswith(("/", "\\"))
        or ".." in name.split("/")
        or "\\" in name
        or ":" in name
        or not name.isprintable()
    ]
    links = [entry.filename for entry in entries if stat.S_ISLNK(entry.external_attr >> 16)]
    if odd or links:
        raise InputError(
            f"{place} holds {(odd + links)[0][:80]!r}, which leads out of it or is no plain name: refused, nothing was "
            "unpacked"
        )
    if len(entries) > _MOST_ENTRIES or len(set(names)) < len(names):
        raise InputError(f"{place} holds {len(entries)} entries, some of them twice or too many: refused")


def _must_have_metadata(bundle: Bundle) -> None:
    if not bundle.has(METADATA):
        raise UsageError(f"{bundle.place} is no MONAI bundle: it holds no {METADATA}")
