"""WADO-RS (PS3.18 10.4): instances as they were stored, metadata, and single values behind a URI.

Addresses in answers are not followed: what they name below /studies is asked of the archive's own URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from residency.archive import Entry, Instance
from residency.archives.dicomweb.http import StatusError, Web
from residency.archives.dicomweb.model import Json, objects
from residency.archives.dicomweb.multipart import LargerError, parts
from residency.archives.dicomweb.query import JSON
from residency.archives.part10 import LARGEST_HEADER_VALUE, LARGEST_INSTANCE, read_row
from residency.archives.patience import patiently
from residency.errors import AnswerError, ArchiveError

MOSTINSTANCES = 100_000
"""Instances of one series; a whole-body CT of thin slices has some 3,000."""
BEGINNING = 4 * 2**20
"""Bytes of an instance that are fetched for its header; what has none by then is asked for value by value."""

INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BULK = 'multipart/related; type="application/octet-stream"'
_GONE = frozenset((404, 410))
_PLACE = re.compile(r"/studies/[0-9.]{1,64}/[A-Za-z0-9._~/-]{1,1000}")


class Retrieval:
    """Gets what one archive holds. A place is a row that names study and series."""

    def __init__(self, web: Web, retries: int) -> None:
        self._web = web
        self._retries = retries

    def series(self, place: Entry) -> Iterator[Instance]:
        """The instances of a series in one answer, one attempt; none where it is not given as a whole."""
        try:
            with self._web.get(path_of(place), INSTANCES) as answer:
                bodies = parts(answer.chunks, answer.content_type, largest=LARGEST_INSTANCE, most=MOSTINSTANCES)
                for data in bodies:
                    yield self.checked(data, place)
        except StatusError:
            return  # whoever asks counts, and asks for each

    def instance(self, place: Entry, uid: str) -> Instance | None:
        """One instance; None where it is not there."""

        def get() -> Instance | None:
            data, _ = self._first(place, uid, LARGEST_INSTANCE)
            return None if data is None else self.checked(data, place, uid)

        return patiently(get, self._retries)

    def beginning(self, place: Entry, uid: str) -> tuple[bytes | None, bool]:
        """The first bytes of an instance, and whether they are all of it; None where it is not there."""
        return patiently(lambda: self._first(place, uid, BEGINNING), self._retries)

    def metadata(self, place: Entry, uid: str = "") -> Iterator[Json]:
        """Headers of a series, or of one instance, in JSON, one attempt; none where the archive does not give them."""
        try:
            with self._web.get(f"{path_of(place, uid)}/metadata", JSON, compressed=True) as answer:
                yield from objects(answer.chunks)
        except StatusError:
            return

    def value(self, uri: object) -> bytes | None:
        """A value that the metadata name by a URI; None where it is too large for a header."""
        found = _PLACE.search(uri) if isinstance(uri, str) and len(uri) < 4096 else None
        if found is None or ".." in found.group():
            raise AnswerError("the archive's metadata name a value by an address that is not its own")
        path = found.group()

        def get() -> bytes | None:
            with self._web.get(path, _BULK) as answer:
                return _one(answer.chunks, answer.content_type, LARGEST_HEADER_VALUE)

        try:
            return patiently(get, self._retries)
        except LargerError:
            return None

    def _first(self, place: Entry, uid: str, largest: int) -> tuple[bytes | None, bool]:
        with self._web.get(path_of(place, uid), INSTANCES, absent=sorted(_GONE)) as answer:
            if answer.status in _GONE:
                return None, True
            try:
                return _one(answer.chunks, answer.content_type, largest), True
            except LargerError as error:
                if largest == LARGEST_INSTANCE:
                    raise
                return error.beginning, False

    def checked(self, data: bytes, place: Entry, uid: str = "") -> Instance:
        """The instance, if it lies in the series and, where one is given, has the UID. Raises AnswerError."""
        try:
            row = read_row(data, "an instance that the archive gives")
        except ArchiveError as error:
            raise AnswerError(f"{self._web.url}: {error}", retry=True) from None
        if row.series_uid != place.series_uid or uid not in ("", row.sop_uid):
            raise AnswerError(
                f"{self._web.url} gives {row.sop_uid} of another series or under another UID than asked for"
            )
        return Instance(row.sop_uid, data)


def path_of(place: Entry, uid: str = "") -> str:
    """The resource of a series, or of one instance of it, below the base URL."""
    series = f"/studies/{place.study_uid}/series/{place.series_uid}"
    return f"{series}/instances/{uid}" if uid else series


def _one(chunks: Iterator[bytes], content_type: str, largest: int) -> bytes:
    """The one part of an answer. It is read to its end, so that the connection can be used again."""
    found = list(parts(chunks, content_type, largest=largest, most=1))
    if not found:
        raise AnswerError("the archive's answer has no part", retry=True)
    return found[0]
