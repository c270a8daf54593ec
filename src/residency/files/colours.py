"""Colours of segments that can be told apart, and seen on grey."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

from residency.files.picture import PALETTE, Colour

_DARKEST = 60.0
"""Least brightness (0..255) of an outline on black and grey; pure blue has 29."""
_NEAREST = 80.0
"""Least distance in RGB of two colours that a legend tells apart."""


def told_apart(asked: Sequence[Colour | None]) -> tuple[Colour, ...]:
    """One colour a segment, as near to what is asked for as can be told from the others; None asks for any."""
    found: list[Colour] = []
    for colour in asked:
        found.append(_seen(colour, found))
    return tuple(found)


def _seen(given: Colour | None, taken: Sequence[Colour]) -> Colour:
    """The colour asked for, if it can be seen and is no other segment's; else the next of the palette, else the hue
    that is farthest from all that are taken.
    """
    tries = (given, *PALETTE) if given is not None else PALETTE
    for colour in tries:
        if _brightness(colour) >= _DARKEST and all(math.dist(colour, other) >= _NEAREST for other in taken):
            return colour
    bright = (hue for n in range(96) if _brightness(hue := _hue(n)) >= _DARKEST)
    return max(bright, key=lambda hue: min(math.dist(hue, other) for other in taken))


def _brightness(colour: Colour) -> float:
    """0..255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _hue(n: int) -> Colour:
    """The n-th of a row of bright hues in four strengths."""
    saturation, value = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.6), (0.25, 1.0))[n % 4]
    red, green, blue = colorsys.hsv_to_rgb(n / 96, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
