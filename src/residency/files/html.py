"""A result as one HTML page that needs nothing else: slices with outlines to scroll through, numbers, and the reasons.

Everything that comes from outside is escaped. The page's own policy allows it no connection, no script but the one in
it (named by its digest), and no picture but those in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from residency.files.measurements import NO_UNIT, MeasurementRow, decimals
from residency.files.picture import (
    Outline,
    display_range,
    grey,
    outline_path,
    pixel_aspect,
    png,
    slices_to_show,
)
from residency.volume import Volume

MOST_SLICES = 96
LARGEST_SIDE = 512
"""Pixels of a slice's longer side; larger ones are thinned, their outlines are not."""

_STYLE = """
:root{color-scheme:light dark;--line:#8886;--warn:#b35900}
[hidden]{display:none!important}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.2em 0}h2{font-size:1.15rem;margin:1.6em 0 .4em;border-bottom:1px solid var(--line)}
.notice{border:2px solid var(--warn);border-radius:6px;padding:.6rem .9rem;font-weight:600}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0}
tr{border-bottom:1px solid var(--line)}td.number{text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600}.key{white-space:nowrap;width:14rem}code{overflow-wrap:anywhere;font-size:.85em}
figure{margin:0}figure svg{display:block;width:100%;max-height:70vh;background:#000}
figcaption{font-variant-numeric:tabular-nums}
.bar{display:flex;gap:1rem;align-items:center;flex-wrap:wrap;margin:.5rem 0}
.bar input[type=range]{flex:1;min-width:12rem}
.without .outline{display:none}
"""

_SCRIPT = """
const viewer=document.getElementById("viewer");
if(viewer){
 const slices=[...viewer.querySelectorAll("figure")],slider=document.getElementById("slider");
 const show=n=>{n=Math.max(0,Math.min(slices.length-1,n));slider.value=n;slices.forEach((s,i)=>s.hidden=i!==n)};
 slider.addEventListener("input",()=>show(+slider.value));
 const move=(e,by)=>{const at=+slider.value;show(at+by);if(+slider.value!==at)e.preventDefault()};
 viewer.addEventListener("wheel",e=>move(e,Math.sign(e.deltaY)),{passive:false});
 document.addEventListener("keydown",e=>{
  const by={ArrowLeft:-1,ArrowRight:1}[e.key];
  if(by&&e.target!==slider)move(e,by)});
 document.getElementById("outlines").addEventListener("change",e=>viewer.classList.toggle("without",!e.target.checked));
 document.getElementById("controls").hidden=false;
 show(+slider.value);
}
"""

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class ResultPage:
    """What the page shows. Texts are plain; nothing in them is taken for markup.

    notices   what must stand at the top: research use only, not verified
    facts     (what, text): the result's UIDs, the network, its digest, its approval
    volume    what the outlines lie on; None where the images are not at hand
    numbers   measurements
    reasons   why this network was chosen, one line each
    sections  the card, (heading, rows)
    section   what a slice is called: "slice", or "axial section" where the volume was turned
    """

    title: str
    notices: tuple[str, ...]
    facts: Rows
    volume: Volume | None
    outlines: tuple[Outline, ...]
    numbers: tuple[MeasurementRow, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[tuple[str, Rows], ...]
    section: str = "slice"


def result_html(page: ResultPage) -> str:
    """The whole page. Equal pages give equal text: it names no time and no machine."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(_STYLE)}'; script-src '{_digest(_SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(_body(page))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _body(page: ResultPage) -> Iterator[str]:
    yield f"<h1>{escape(page.title)}</h1>"
    yield '<div class="notice" role="note">' + "<br>".join(escape(n) for n in page.notices) + "</div>"
    if page.warnings:
        yield "<h2>Warnings</h2>" + _listed(page.warnings)
    yield "<h2>Measurements</h2>" + _numbers(page.numbers)
    yield "<h2>Images</h2>"
    yield from _viewer(page)
    if page.reasons:
        yield "<h2>Why this network</h2>" + _listed(page.reasons)
    yield "<h2>Result</h2>" + _table(page.facts)
    for heading, rows in page.sections:
        yield f"<h2>{escape(heading)}</h2>" + _table(rows)


def _listed(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _table(rows: Rows) -> str:
    cells = (f'<tr><th class="key" scope="row">{escape(what)}</th><td>{_text(said)}</td></tr>' for what, said in rows)
    return "<table>" + "".join(cells) + "</table>"


def _text(said: str) -> str:
    """UIDs and digests in a narrow type that may break anywhere."""
    shown = escape(said).replace("\n", "<br>")
    return f"<code>{shown}</code>" if len(said) > 30 and " " not in said else shown


def _numbers(rows: Sequence[MeasurementRow]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "<tr><th>Segment</th><th>Side</th><th>Quantity</th><th>Value</th><th>Unit</th></tr>"
    lines = (
        f"<tr><td>{escape(row.label)}</td><td>{escape(row.side or 'unknown')}</td><td>{escape(row.quantity)}</td>"
        f'<td class="number">{_figure(row)}</td>'
        f"<td>{escape(row.evaluation or ('' if row.unit == NO_UNIT else row.unit))}</td></tr>"
        for row in rows
    )
    return f"<table>{head}{''.join(lines)}</table>"


def _figure(row: MeasurementRow) -> str:
    if not np.isfinite(row.value):
        return "not a number"
    return f"{row.value:,.{decimals(row.unit) if abs(row.value) < 1000 else 0}f}"


def _viewer(page: ResultPage) -> Iterator[str]:
    if page.volume is None:
        yield "<p>The source images are not at hand, or may not be drawn; the page was made without them.</p>"
        return
    volume = page.volume
    shown = slices_to_show([o.mask for o in page.outlines], volume.grid.shape[0], MOST_SLICES)
    areas = [sum(int(o.mask[k].sum()) for o in page.outlines) for k in shown]
    start = int(np.argmax(areas)) if any(areas) else len(shown) // 2
    limits = display_range(volume.array)
    yield _legend(page.outlines, len(shown), start)
    for number, k in enumerate(shown):
        yield _slice(page, volume, k, limits, hidden=number != start)
    yield "</div>"
    if len(shown) < volume.grid.shape[0]:
        yield f"<p>{len(shown)} of {volume.grid.shape[0]} {page.section}s are shown, those around the segments.</p>"


def _legend(outlines: Sequence[Outline], count: int, start: int) -> str:
    names = "".join(
        f'<span><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" fill="{_css(o.colour)}"/>'
        f"</svg> {escape(o.label)}</span>"
        for o in outlines
    )
    return (
        f'<div id="viewer"><div class="bar">{names}</div><div class="bar" id="controls" hidden>'
        f'<label for="slider">Slice</label><input type="range" id="slider" min="0" max="{count - 1}" value="{start}">'
        '<label><input type="checkbox" id="outlines" checked> outlines</label></div>'
    )


def _slice(page: ResultPage, volume: Volume, k: int, limits: tuple[float, float], *, hidden: bool) -> str:
    """One slice: its pixels as PNG, its outlines as paths in the coordinates of the full matrix."""
    rows, columns = volume.grid.shape[1:]
    thin = max(1, -(-max(rows, columns) // LARGEST_SIDE))
    plane = grey(volume.array[k][::thin, ::thin], limits)
    wide, high = plane.shape[1] * thin, plane.shape[0] * thin
    picture = base64.b64encode(png(plane)).decode()
    height = rows * pixel_aspect(volume.grid)
    paths = "".join(
        f'<path d="{outline_path(o.mask[k])}" stroke="{_css(o.colour)}"/>' for o in page.outlines if o.mask[k].any()
    )
    name = page.section.capitalize()
    return (
        f"<figure{' hidden' if hidden else ''}>"
        f'<svg viewBox="0 0 {columns} {height:.4f}" role="img" aria-label="{name} {k + 1}">'
        f'<g transform="scale(1 {pixel_aspect(volume.grid):.6f})">'
        f'<image width="{wide}" height="{high}" preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>'
        f'<g class="outline" fill="none" stroke-width="{max(rows, columns) / 260:.3f}">{paths}</g></g></svg>'
        f"<figcaption>{name} {k + 1} of {volume.grid.shape[0]}</figcaption></figure>"
    )


def _css(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"
