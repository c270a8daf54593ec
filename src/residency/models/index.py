"""What was once read and placed rightly, so that 1,000 models are not fetched again at each look-up.

A derived UID names one digest, so an entry cannot go stale. The file may be thrown away; it holds nothing that the
archive does not, and whatever is fetched to be used is verified from the start.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from residency.dicom.model_object import ManifestObject
from residency.models.folder import private_folder
from residency.trust import Signature

_SCHEMA = """
create table if not exists texts_2 (
  archive text not null, uid text not null, kind text not null, series_uid text not null, study_uid text not null,
  text blob not null, key_id text, signature blob, parts text not null, fits int not null,
  primary key (archive, uid)) without rowid
"""


@dataclass(frozen=True)
class IndexedText:
    """A manifest or statement as it was read: where it lies, its characters, its signature.

    parts  UIDs of the parts that a manifest implies; () until the manifest was parsed and found in its place
    fits   the signature was verified with the key that it names
    """

    kind: str
    found: ManifestObject
    parts: tuple[str, ...] = ()
    fits: bool = False


@dataclass(frozen=True)
class ModelIndex:
    """The index in a SQLite file. Any trouble with the file means an empty index, never an error."""

    path: Path

    def load(self, archive: str) -> Mapping[str, IndexedText]:
        """All entries of one archive, by SOP Instance UID."""
        entries: dict[str, IndexedText] = {}
        try:
            with self._open() as db:
                rows = db.execute(
                    "select uid, kind, series_uid, study_uid, text, key_id, signature, parts, fits"
                    " from texts_2 where archive = ?",
                    (archive,),
                )
                for uid, kind, series_uid, study_uid, text, key_id, value, parts, fits in rows:
                    signature = Signature(key_id, value) if key_id else None
                    found = ManifestObject(uid, series_uid, study_uid, text, signature)
                    entries[uid] = IndexedText(kind, found, tuple(parts.split()), bool(fits))
        except sqlite3.OperationalError:  # locked for long, or no place on the disk
            return {}
        except sqlite3.DatabaseError:  # no index, or a damaged one
            self.discard()
            return {}
        return entries

    def add(self, archive: str, entries: Iterable[IndexedText]) -> None:
        """Remember entries."""
        rows = [
            (
                archive,
                e.found.uid,
                e.kind,
                e.found.series_uid,
                e.found.study_uid,
                e.found.text,
                e.found.signature.key_id if e.found.signature else None,
                e.found.signature.value if e.found.signature else None,
                " ".join(e.parts),
                e.fits,
            )
            for e in entries
        ]
        if rows:
            with contextlib.suppress(sqlite3.DatabaseError), self._open() as db:
                db.executemany("insert or replace into texts_2 values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def discard(self) -> None:
        """Throw the file away."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            private_folder(self.path.parent)
        except OSError as error:
            raise sqlite3.DatabaseError(str(error)) from None
        db = sqlite3.connect(self.path, timeout=5)
        try:
            db.execute(_SCHEMA)
            with db:
                yield db
        finally:
            db.close()
