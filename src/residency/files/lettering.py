"""Text in pictures: one font that comes with Pillow, laid out alike on every machine, and only what it can show.

The font (Aileron, CC0) holds ASCII. Other letters are spelled in it where that is possible ("Größe" is "Grosse"); what
cannot be spelled is marked, never drawn as a box and never left out in silence.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

NOT_SHOWN = "[...]"
"""Stands for a word in a script that the font does not have."""

_SPELLED = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "Ae",
    "ø": "o",
    "Ø": "O",
    "œ": "oe",
    "Œ": "Oe",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "µ": "u",
    "μ": "u",
    "°": " deg",
    "\u00d7": "x",
    "±": "+/-",
    "≥": ">=",
    "≤": "<=",
    "\u2013": "-",
    "\u2014": "-",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u00a0": " ",
}


@cache
def font(size: int) -> FreeTypeFont:
    """The font, `size` pixels high. Basic layout: the other one depends on libraries of the machine."""
    from PIL import ImageFont

    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return found.font_variant(layout_engine=ImageFont.Layout.BASIC)


def spelled(text: str) -> str | None:
    """One line in printable ASCII, accents taken off; None where a letter has no such spelling.

    >>> spelled("Größe 3 µm"), spelled("海馬") is None
    ('Grosse 3 um', True)
    """
    flat = " ".join(unicodedata.normalize("NFC", text).split())
    plain = "".join(_SPELLED.get(character) or _without_marks(character) for character in flat)
    return plain if all(" " <= character <= "~" for character in plain) else None


def _without_marks(character: str) -> str:
    apart = unicodedata.normalize("NFKD", character)
    return "".join(part for part in apart if not unicodedata.combining(part)) or character


def shown(text: str) -> str:
    """One line that the font can draw: each word spelled in ASCII, or NOT_SHOWN in its place.

    >>> shown("Modèle 海馬 1.0")
    'Modele [...] 1.0'
    """
    words = [spelled(word) or NOT_SHOWN for word in text.split()]
    return re.sub(rf"{re.escape(NOT_SHOWN)}( {re.escape(NOT_SHOWN)})+", NOT_SHOWN, " ".join(words))


def fitted(text: str, size: int, width: int) -> str:
    """As much of a line as is at most `width` pixels wide, cut visibly with "..."."""
    line = shown(text)
    if font(size).getlength(line) <= width:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if font(size).getlength(line[:middle].rstrip() + "...") <= width:
            low = middle
        else:
            high = middle - 1
    return line[:low].rstrip() + "..."


def wrapped(text: str, size: int, width: int, most: int) -> list[str]:
    """A text in at most `most` lines of at most `width` pixels, the last one cut visibly."""
    lines: list[str] = []
    line = ""
    for word in shown(text).split():
        longer = f"{line} {word}".strip()
        if line and font(size).getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    kept = [*lines[: most - 1], " ".join(lines[most - 1 :])] if len(lines) > most else lines
    return [fitted(one, size, width) for one in kept]
