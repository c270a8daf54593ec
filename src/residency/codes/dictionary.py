"""Looking codes up: the current form of a legacy code, its meaning, and what a person typed."""

from __future__ import annotations

from difflib import get_close_matches

from residency.codes import stored
from residency.codes.concept import Code, split_code_text
from residency.errors import CodeError

LEGACY_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})
"""Designators of SNOMED-RT style values (T-A0100) in older objects; one equivalence table holds for all (PS3.16)."""


def canonical(code: Code) -> Code:
    """The same concept as DICOM codes it now.

    SNOMED-RT values become SNOMED CT ones, and the codes for abdomen, chest and pelvis that DICOM used before become
    the present ones. A code that is current, or that no table knows, comes back unchanged.

    >>> canonical(Code(scheme="SRT", value="T-D4000", meaning="Abdomen")).value
    '818981001'
    """
    value = code.value
    if code.scheme in LEGACY_SNOMED:
        translated = stored.sct_of_srt(value)
        if translated is None:
            return code
        value = translated
    elif code.scheme != "SCT":
        return code
    value = stored.renamed().get(value, value)
    if (code.scheme, code.value) == ("SCT", value):
        return code
    return Code(scheme="SCT", value=value, meaning=stored.meaning("SCT", value) or code.meaning)


def known(code: Code) -> Code | None:
    """The current form of the code, with the meaning that DICOM's dictionaries give; None for one they do not hold."""
    now = canonical(code)
    meaning = stored.meaning(now.scheme, now.value)
    return None if meaning is None else Code(scheme=now.scheme, value=now.value, meaning=meaning)


def parse_code(text: str) -> Code:
    """The code that a person typed as SCHEME:VALUE, such as "SCT:5366008", with a meaning to show and to store.

    A code that the dictionaries do not hold (a local scheme, a SNOMED CT concept outside DICOM's subset) needs its
    meaning: "99LOCAL:17=Pneumonia". Raises CodeError.
    """
    typed = typed_code(text)
    if "=" in text or known(typed) is not None:
        return typed
    schemes = sorted({scheme for scheme, _ in stored.concepts()})
    hint = "" if typed.scheme in schemes else f"; known schemes: {', '.join(schemes)}, SRT"
    code = f"{typed.scheme}:{typed.value}"
    raise CodeError(
        f"code {code} is not in DICOM's dictionaries{hint}; a code from elsewhere needs its meaning: {code}=MEANING"
    )


def typed_code(text: str) -> Code:
    """The same where only scheme and value matter: any well-formed code, known or not. Raises CodeError."""
    head, separator, meaning = text.strip().partition("=")
    parts = split_code_text(head)
    if parts is None:
        raise CodeError(f"'{text[:80]}' is not a code; write SCHEME:VALUE, such as SCT:5366008{_suggest_meaning(text)}")
    scheme, value = parts
    try:
        typed = Code(scheme=scheme, value=value, meaning=meaning.strip() if separator else value)
    except ValueError:
        raise CodeError(
            f"'{text[:80]}' is not a code: scheme of up to 16, value and meaning of 1 to 64 characters"
        ) from None
    return known(typed) or typed


def modality(value: str) -> Code | None:
    """The acquisition modality (CID 29) with this value, such as "MR"; None for a value that is none."""
    meaning = stored.meaning("DCM", value) if ("DCM", value) in stored.group(29) else None
    return None if meaning is None else Code(scheme="DCM", value=value, meaning=meaning)


def nearest_modality(text: str) -> Code | None:
    """The modality that a person probably means by a text that is none, such as MR by "MRI"; None without one."""
    values = sorted(value for scheme, value in stored.group(29) if scheme == "DCM")
    near = get_close_matches(text.strip().upper()[:80], values, n=1)
    return modality(near[0]) if near else None


def in_group(code: Code, number: int) -> bool:
    """True if the code is in this context group of PS3.16 (4, 29, 4030, 4031, 7150 to 7156, 7159, 7166 and 7192)."""
    now = canonical(code)
    return (now.scheme, now.value) in stored.group(number)


def _suggest_meaning(text: str) -> str:
    """What a person probably means by a word: regions and structures only, the ones that models are labelled with."""
    concepts = stored.concepts()
    by_meaning = {concepts[key].casefold(): key for key in stored.group(7151) | stored.group(4) if key in concepts}
    near = get_close_matches(text.strip().casefold()[:80], by_meaning, n=1)
    if not near:
        return ""
    scheme, value = by_meaning[near[0]]
    return f"; did you mean {scheme}:{value} ({concepts[scheme, value]})?"
