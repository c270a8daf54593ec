"""Text and numbers in objects of ours: made to fit their value representations, in a character set that expresses them.

Limits are of DICOM PS3.5 6.2, character sets of PS3.5 6.1 and PS3.3 C.12.1.1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydicom.charset import (
    convert_encodings,
    custom_encoders,
    decode_bytes,
    default_encoding,
    encode_string,
    python_encoding,
)
from pydicom.dataset import Dataset
from pydicom.valuerep import TEXT_VR_DELIMS

from residency.dicom.dataset import quiet

UTF8 = "ISO_IR 192"
"""Specific Character Set of Unicode in UTF-8: what we write where the source's own set cannot express the text."""

LONG_STRING = 64
"""Longest LO, in characters."""

_DECIMAL_STRING = 16
"""Longest DS, in characters."""

_TEXT_VRS = frozenset({"SH", "LO", "UC", "ST", "LT", "UT", "PN"})


def one_line(text: str, limit: int = LONG_STRING) -> str:
    """Text for SH or LO: one line, no backslash (it separates values), cut visibly with "..." beyond `limit`.

    >>> one_line("Residual U-Net", 11)
    'Residual...'
    """
    flat = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).replace("\\", "/").split())
    return flat if len(flat) <= limit else flat[: limit - 3].rstrip() + "..."


def person_name(text: str) -> str:
    """A name for PN, as it is written; the delimiters of PN's groups are taken out, and it is cut to 64 characters.

    >>> person_name("Dr. A. Radiologist"), person_name("Radiologist^Anna")
    ('Dr. A. Radiologist', 'Radiologist^Anna')
    """
    return one_line(text.replace("=", " "))


def long_text(text: str, limit: int) -> str:
    """Text for ST, LT or UT: lines kept, other control characters dropped, cut visibly with "..." beyond `limit`."""
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text.replace("\r\n", "\n").replace("\r", "\n"))
    clean = clean.replace("\n", "\r\n")
    return clean if len(clean) <= limit else clean[: limit - 3].rstrip() + "..."


def decimal(value: float) -> str:
    """A finite number for DS, with as many digits as fit.

    pydicom's own formatting gives 17 characters for numbers just below a power of ten, which readers refuse.

    >>> decimal(9.999999999999998), decimal(-1 / 3)
    ('10', '-0.3333333333333')
    """
    value = float(value) + 0.0  # no negative zero
    text, digits = repr(value), _DECIMAL_STRING
    while len(text) > _DECIMAL_STRING:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def character_set(dataset: Dataset, source_terms: Sequence[str]) -> list[str]:
    """Terms for Specific Character Set: the source's where they express every text of the data set, else UTF-8.

    source_terms  values of the source's Specific Character Set; () where it has none

    Without terms in the source and with plain ASCII throughout there are none here either. The text of the data set
    must be decoded.
    """
    if not any(source_terms):
        return [] if all(text.isascii() for text in _texts(dataset)) else [UTF8]
    if any(term not in python_encoding for term in source_terms):
        return [UTF8]
    encodings = convert_encodings(list(source_terms))
    return list(source_terms) if all(_expresses(encodings, text) for text in _texts(dataset)) else [UTF8]


def _texts(dataset: Dataset) -> Iterator[str]:
    """Every text in the data set, nested ones too, to which the character set applies."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in _TEXT_VRS and element.value:
            values = element.value if element.VM > 1 else [element.value]
            yield from (str(value) for value in values)


def _expresses(encodings: list[str], text: str) -> bool:
    """True if the text survives being written and read in these encodings, by others than pydicom too.

    pydicom takes the default repertoire, which is ASCII, for Latin-1: it would write "ö" as a byte that there has no
    meaning, even where another of the encodings had one.
    """
    if text.isascii():
        return True
    if default_encoding in encodings and any("\x80" <= character <= "\xff" for character in text):
        return False
    if not all(any(_fits(encoding, character) for encoding in encodings) for character in set(text)):
        return False
    with quiet():
        return decode_bytes(encode_string(text, encodings), encodings, TEXT_VR_DELIMS) == text


def _fits(encoding: str, character: str) -> bool:
    encoder = custom_encoders.get(encoding)
    try:
        if encoder is not None:
            encoder(character, errors="strict")
        else:
            character.encode(encoding)
    except UnicodeError:
        return False
    return True
