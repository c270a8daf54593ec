"""What one DICOMweb service does and another does not, tried on an instance that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from residency.archive import Entry
from residency.archives.dicomweb.http import Web
from residency.archives.dicomweb.retrieve import INSTANCES, path_of
from residency.archives.part10 import LARGEST_INSTANCE
from residency.errors import AnswerError

_PARTIAL_CONTENT = 206


def traits_of(web: Web, place: Entry) -> Iterator[tuple[str, bool, str]]:
    """(what, whether it does it, detail): packing what is asked for in gzip, and giving a part of an instance.

    Raises ArchiveError where it does not give the instance.
    """
    path = path_of(place, place.sop_uid)
    with web.get(path, INSTANCES, compressed=True) as answer:
        coding = answer.headers.get("content-encoding", "")
        size = _size(answer.chunks)
    yield "packs bulk in gzip where it is allowed to", bool(coding), f"{coding or 'no'} coding; we never allow it"
    with web.get(path, INSTANCES, first_bytes=64) as answer:
        given = _size(answer.chunks)
        part = answer.status == _PARTIAL_CONTENT
    yield "gives a range of bytes", part, f"{given} of {size} bytes for 64; we never rely on it"


def _size(chunks: Iterable[bytes]) -> int:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LARGEST_INSTANCE:
            raise AnswerError("the archive gives an instance without end")
    return size
