"""What one DICOMweb service does and another does not, tried on an instance that it holds."""

from __future__ import annotations

from collections.abc import Iterator

from residency.archive import Entry
from residency.archives.dicomweb.http import Web
from residency.archives.dicomweb.retrieve import INSTANCES, path_of

_PARTIAL_CONTENT = 206


def traits_of(web: Web, place: Entry) -> Iterator[tuple[str, bool, str]]:
    """(what, whether it does it, detail): packing what is asked for in gzip, and giving a part of an instance.

    Raises ArchiveError where it does not give the instance.
    """
    path = path_of(place, place.sop_uid)
    with web.get(path, INSTANCES, compressed=True) as answer:
        coding = answer.headers.get("content-encoding", "")
        size = sum(map(len, answer.chunks))
    yield "packs bulk in gzip where it is allowed to", bool(coding), f"{coding or 'no'} coding; we never allow it"
    with web.get(path, INSTANCES, first_bytes=64) as answer:
        given = sum(map(len, answer.chunks))
        part = answer.status == _PARTIAL_CONTENT
    yield "gives a range of bytes", part, f"{given} of {size} bytes for 64; we never rely on it"
