"""One page of a summary: what stands on every one, and how text and pictures are put on it."""

from __future__ import annotations

from dataclasses import dataclass

from residency.files.lettering import NOT_SHOWN, fitted, font, spelled, wrapped
from residency.files.picture import Colour, Rgb
from residency.findings import Findings
from residency.volume import Volume

SIDE = 1024
"""Rows and columns of a page; the same for all, so that viewers keep their zoom."""
BANNER = "AI RESULT, NOT VERIFIED BY A PERSON. RESEARCH USE ONLY."


MARGIN, GAP = 20, 6
_BANNER_HEIGHT, _FOOTER_HEIGHT = 46, 30
_LARGE, MEDIUM, SMALL = 22, 18, 15
_PAPER, INK, DIM, AMBER = (16, 16, 16), (235, 235, 235), (165, 165, 165), (255, 176, 0)
WIDTH = SIDE - 2 * MARGIN
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


@dataclass(frozen=True, eq=False)
class Summary:
    """What the pages show.

    volume       what the findings lie on; a radiograph bright = dense
    limits       modality values that are shown black and white
    orientation  where columns and rows increase to, as Patient Orientation says it ("L", "P"); None where unknown
    section      what a slice is called: "slice", or "axial section" where the volume was turned
    """

    findings: Findings
    volume: Volume
    limits: tuple[float, float]
    orientation: tuple[str, str] | None = None
    section: str = "slice"


class Sheet:
    """One page being drawn: what stands on every page, and the room left between `top` and `bottom`."""

    def __init__(self, summary: Summary, number: int, count: int) -> None:
        from PIL import Image as Pictures
        from PIL import ImageDraw

        self.summary = summary
        self.image = Pictures.new("RGB", (SIDE, SIDE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        model = summary.findings.model
        self._draw.rectangle((0, 0, SIDE, _BANNER_HEIGHT), fill=AMBER)
        self.write(MARGIN, 11, BANNER, size=_LARGE, colour=(0, 0, 0))
        self.top, self.bottom = _BANNER_HEIGHT + 8, SIDE - _FOOTER_HEIGHT
        digest = model.digest.removeprefix("sha256:")[:12]
        name = _model_name(model.name, model.family)
        self.line(f"{name} {model.version}, sha256 {digest}, from {model.publisher}", size=MEDIUM)
        for text in wrapped(f"{model.notice} This model is {model.approval}.", SMALL, WIDTH, 2):
            self.line(text, colour=DIM)
        self.write(MARGIN, self.bottom + 4, f"Page {number} of {count}", size=SMALL, colour=DIM)
        told = "The numbers with their codes stand in the report of this study."
        self.write(SIDE - MARGIN - int(font(SMALL).getlength(told)), self.bottom + 4, told, colour=DIM)

    def write(
        self, left: int, top: int, text: str, *, size: int = SMALL, colour: Colour = INK, width: int = WIDTH
    ) -> None:
        """One line at a place, cut visibly where it is too wide."""
        self._draw.text((left, top), fitted(text, size, width), fill=colour, font=font(size))

    def line(self, text: str, *, size: int = SMALL, colour: Colour = INK) -> None:
        """One line below what is there."""
        self.write(MARGIN, self.top, text, size=size, colour=colour)
        self.top += size + 8

    def heading(self, text: str) -> None:
        self.top += 4
        self.line(text, size=MEDIUM)

    def box(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)

    def marks(self, left: int, top: int, width: int, height: int) -> None:
        """Letters of the patient's directions at the four edges of a picture, dark behind them."""
        if self.summary.orientation is None:
            return
        right, below = self.summary.orientation
        places = (
            (_reverse(right), 4, height // 2),
            (right, width - 4, height // 2),
            (_reverse(below), width // 2, 4),
            (below, width // 2, height - 4 - MEDIUM),
        )
        for text, x, y in places:
            wide = int(font(MEDIUM).getlength(text))
            at = left + min(max(x - wide // 2, 4), width - wide - 4)
            self.tag(at, top + min(y, height - MEDIUM - 4), text)

    def tag(self, left: int, top: int, text: str, colour: Colour = INK) -> None:
        """A short text that stays legible on any grey."""
        self._draw.text((left, top), text, fill=colour, font=font(MEDIUM), stroke_width=2, stroke_fill=(0, 0, 0))

    def paste(self, pixels: Rgb, left: int, top: int) -> None:
        from PIL import Image as Pictures

        self.image.paste(Pictures.fromarray(pixels), (left, top))

    def warnings(self, most: int) -> None:
        """The findings' warnings, each cut visibly, and how many do not fit."""
        said = self.summary.findings.warnings
        kept = said if len(said) <= most else said[: most - 1]
        for text in kept:
            self.line(f"Warning: {text}", colour=AMBER)
        if len(kept) < len(said):
            self.line(f"{len(said) - len(kept)} more warnings stand in the report", colour=AMBER)


def _reverse(letters: str) -> str:
    return "".join(_OPPOSITE.get(letter, letter) for letter in letters)


def _model_name(name: str, family: str) -> str:
    return spelled(name) or f"{NOT_SHOWN} ({family})"
