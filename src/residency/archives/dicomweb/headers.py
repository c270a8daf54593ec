"""Headers of many instances without their pixels: from JSON where that says everything, else from the instance itself.

JSON of the DICOM model is made from the instance by the archive, and not all of it arrives: Orthanc 1.10 leaves out AT,
SV and UV elements and empty items, splits long text at backslashes, and gives every binary value, however small, only
behind a URI. So JSON is taken for single-frame images whose one binary value is their pixels: there it saves hundreds
of megabytes and carries what places a slice. Everything else is fetched as it is and cut before its pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from residency.archive import Entry, Instance
from residency.archives.dicomweb.model import Json, bulk, encode, text_of
from residency.archives.dicomweb.retrieve import Retrieval
from residency.archives.part10 import header_of, up_to_pixels
from residency.errors import AnswerError

_SOP_INSTANCE, _SERIES, _FRAMES = "00080018", "0020000E", "00280008"


def from_json(retrieval: Retrieval, place: Entry) -> Iterator[tuple[str, Instance | None]]:
    """UIDs of a series with their headers, or with None where JSON does not say enough. One attempt."""
    for row in retrieval.metadata(place):
        uid = text_of(row, _SOP_INSTANCE)
        if text_of(row, _SERIES) != place.series_uid or not uid:
            raise AnswerError("the archive gives metadata of another series than asked for")
        yield uid, _header(uid, row) if _says_enough(row) else None


def exact(retrieval: Retrieval, place: Entry, uid: str) -> Instance | None:
    """The header of one instance out of its first bytes; value by value where they do not reach its pixels.

    None where the instance is not there.
    """
    data, whole = retrieval.beginning(place, uid)
    if data is None:
        return None
    beginning = data if whole else up_to_pixels(data)
    if beginning is not None:
        return Instance(uid, header_of(beginning, uid))
    for row in retrieval.metadata(place, uid):
        elements = [element for _, element in bulk(row)]
        if not all("BulkDataURI" in element for element in elements):
            break
        for element in elements:
            value = retrieval.value(element.get("BulkDataURI"))
            if value is not None:  # else its URI stands there still, and it is left out
                del element["BulkDataURI"]
                element["InlineBinary"] = base64.b64encode(value).decode("ascii")
        return Instance(uid, encode(row))
    whole_instance = retrieval.instance(place, uid)
    return None if whole_instance is None else Instance(uid, header_of(whole_instance.data, uid))


def _says_enough(row: Json) -> bool:
    pixels = any(tag.upper().startswith("7FE0") for tag in row)
    frames = text_of(row, _FRAMES)
    return pixels and frames in ("", "1") and next(bulk(row), None) is None


def _header(uid: str, row: Json) -> Instance | None:
    try:
        return Instance(uid, encode(row))
    except AnswerError:
        return None
