"""A page of text as PDF. Equal pages give equal bytes: no clock, no random identifiers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from residency.card.page import Page


def page_pdf(page: Page, author: str) -> bytes:
    """The page on A4, its notice at the top of every sheet."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=22 * mm,
        bottomMargin=18 * mm,
        title=_printable(page.title),
        author=_printable(author),
        creator="Residency",
        invariant=1,
        pageCompression=0,  # compressed bytes differ between builds of zlib
    )

    def frame(canvas: Any, _document: Any) -> None:
        canvas.setFont("Helvetica-Bold", 9)
        canvas.drawString(20 * mm, A4[1] - 14 * mm, _printable(page.notice)[:110])
        canvas.setFont("Helvetica", 8)
        canvas.drawRightString(A4[0] - 20 * mm, 10 * mm, str(canvas.getPageNumber()))

    document.build(_story(page, A4[0] - 40 * mm), onFirstPage=frame, onLaterPages=frame)
    return out.getvalue()


def _story(page: Page, width: float) -> list[Any]:
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, Spacer, Table, TableStyle

    styles = getSampleStyleSheet()
    small = styles["BodyText"].clone("small", fontSize=9, leading=11, spaceBefore=0)
    story: list[Any] = [Paragraph(_markup(page.title), styles["Title"])]
    for section in page.sections:
        story.append(Paragraph(_markup(section.heading), styles["Heading2"]))
        rows: Sequence[Sequence[Any]] = [
            [Paragraph(_markup(what), small), Paragraph(_markup(said), small)] for what, said in section.rows
        ]
        table = Table(rows, colWidths=[width * 0.24, width * 0.76], splitInRow=1)
        table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]))
        story += [table, Spacer(1, 4)]
    return story


def _markup(text: str) -> str:
    return escape(_printable(text)).replace("\n", "<br/>")


def _printable(text: str) -> str:
    """What the standard PDF fonts can show (WinAnsi); other characters as '?', never dropped in silence."""
    return text.encode("cp1252", errors="replace").decode("cp1252")
