"""Headers of many instances without their pixels: from JSON where that says everything, else from the instance itself.

JSON of the DICOM model is made from the instance by the archive, and not all of it arrives: Orthanc 1.10 leaves out AT,
SV and UV elements and empty items, splits long text at backslashes, loses all values but the first number where the
character set has a Yen sign in the backslash's place, and gives every binary value, however small, only behind a URI.
So JSON is taken for single-frame images in an ordinary character set whose one binary value is their pixels: there it
saves hundreds of megabytes and carries what places a slice. Everything else is fetched as it is and cut before its
pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from residency.archive import Entry, Instance
from residency.archives.dicomweb.model import Json, bulk, encode, text_of, values_of
from residency.archives.dicomweb.retrieve import Retrieval
from residency.archives.part10 import header_of, up_to_pixels
from residency.dicom.dataset import is_uid
from residency.errors import AnswerError

_SOP_INSTANCE, _SERIES, _CHARACTER_SET = "00080018", "0020000E", "00080005"
_FRAMES = "00280008"
_GEOMETRY = ("00200032", "00200037", "00280030", "00281052", "00281053", _FRAMES)
"""Position, orientation, spacing, intercept, slope: a number that an archive cannot read, it leaves out."""
_ORDINARY = ("", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192")


def from_json(retrieval: Retrieval, place: Entry) -> Iterator[tuple[str, Instance | None]]:
    """UIDs of a series with their headers, or with None where JSON does not say enough. One attempt."""
    for row in retrieval.metadata(place):
        uid = text_of(row, _SOP_INSTANCE)
        if text_of(row, _SERIES) != place.series_uid or not is_uid(uid):
            raise AnswerError("the archive gives metadata of another series than asked for, or without a UID")
        yield uid, _header(uid, row)


def exact(retrieval: Retrieval, place: Entry, uid: str) -> Instance | None:
    """The header of one instance out of its first bytes; value by value where they do not reach its pixels.

    None where the instance is not there.
    """
    data, whole = retrieval.beginning(place, uid)
    if data is None:
        return None
    if whole:
        return Instance(uid, header_of(retrieval.checked(data, place, uid).data, uid))
    beginning = up_to_pixels(data)
    if beginning is not None:
        return retrieval.checked(header_of(beginning, uid), place, uid)
    for row in retrieval.metadata(place, uid):
        elements = [element for _, element in bulk(row)]
        if not all("BulkDataURI" in element for element in elements):
            break
        for element in elements:
            value = retrieval.value(element.get("BulkDataURI"))
            if value is not None:  # else its URI stands there still, and it is left out
                del element["BulkDataURI"]
                element["InlineBinary"] = base64.b64encode(value).decode("ascii")
        return retrieval.checked(encode(row), place, uid)
    whole_instance = retrieval.instance(place, uid)
    return None if whole_instance is None else Instance(uid, header_of(whole_instance.data, uid))


def _says_enough(row: Json) -> bool:
    pixels = any(tag.upper().startswith("7FE0") for tag in row)
    character_sets = values_of(row, _CHARACTER_SET) or [""]
    return (
        pixels
        and text_of(row, _FRAMES) in ("", "1")
        and not any(tag in row and not values_of(row, tag) for tag in _GEOMETRY)
        and len(character_sets) == 1
        and character_sets[0] in _ORDINARY
        and next(bulk(row), None) is None
    )


def _header(uid: str, row: Json) -> Instance | None:
    """The header out of JSON; None where that does not say enough, or something that cannot be."""
    try:
        return Instance(uid, encode(row)) if _says_enough(row) else None
    except AnswerError:
        return None
