"""The page of a result: whole in itself, closed to the outside, and deaf to markup in what it shows."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from residency.files.html import ResultPage, result_html
from residency.files.measurements import MeasurementRow
from residency.files.picture import Outline
from residency.volume import Volume, regular_grid

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&"
GRID = regular_grid((12, 16, 24), (1.0, 2.0, 1.0))
MASK = np.zeros(GRID.shape, np.bool_)
MASK[5:8, 4:9, 6:12] = True
IMAGE = Volume(np.random.default_rng(3).uniform(0, 99, GRID.shape).astype(np.float32), GRID)
PAGE = ResultPage(
    title="Result of Example 1.0",
    notices=("Research use only.", "not verified"),
    facts=(("Study", "1.2.3"), ("Digest", "sha256:" + "ab" * 32)),
    volume=IMAGE,
    outlines=(Outline("anterior", (255, 0, 0), MASK), Outline("posterior", (0, 0, 255), ~MASK & (IMAGE.array > 98))),
    numbers=(MeasurementRow("anterior", 1, "", "Volume", "SCT:118565006", 2.25, "mL"),),
    reasons=("modality = MR",),
    warnings=(),
    sections=(("Card: Intended use", (("Use", "Testing."),)),),
)


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data


def parsed(page: ResultPage) -> Tags:
    tags = Tags()
    tags.feed(result_html(page))
    return tags


def test_the_page_needs_nothing_from_outside() -> None:
    """A hospital's workstation has no way out, and a page that calls home tells who was examined."""
    for tag, attributes in parsed(PAGE).tags:
        for name, value in attributes.items():
            assert name not in ("srcset", "action", "style"), tag
            assert not name.startswith("on"), tag
            if name in ("src", "href", "data", "poster"):
                assert value is not None
                assert value.startswith("data:image/png;base64,")
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
    assert not re.search(r"https?://|url\(|@import|fetch|XMLHttp|WebSocket|innerHTML|eval\(", result_html(PAGE))


def test_the_policy_admits_this_script_and_style_only() -> None:
    tags = parsed(PAGE)
    (policy,) = (
        a["content"] for tag, a in tags.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(tags.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_nothing_received_becomes_markup() -> None:
    """Segment labels, reasons and cards come out of an archive that others can write to."""
    evil = replace(
        PAGE,
        title=EVIL,
        notices=(EVIL,),
        facts=((EVIL, EVIL),),
        outlines=(replace(PAGE.outlines[0], label=EVIL),),
        numbers=(MeasurementRow(EVIL, 1, EVIL, EVIL, EVIL, 1.0, EVIL, EVIL),),
        reasons=(EVIL,),
        warnings=(EVIL,),
        sections=((EVIL, ((EVIL, EVIL),)),),
    )
    tags = parsed(evil)
    assert [tag for tag, _ in tags.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in tags.tags}
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert "<script>alert" not in result_html(evil)


def test_slices_around_the_segments_can_be_scrolled_through() -> None:
    tags = parsed(replace(PAGE, outlines=PAGE.outlines[:1]))
    figures = [attributes for tag, attributes in tags.tags if tag == "figure"]
    assert len(figures) == 3 + 4
    assert sum("hidden" not in figure for figure in figures) == 1
    (slider,) = (a for tag, a in tags.tags if tag == "input" and a.get("type") == "range")
    assert slider["max"] == "6"
    assert "hidden" not in figures[int(slider["value"] or 0)]


def test_pictures_hold_the_pixels_and_outlines_their_edges() -> None:
    tags = parsed(replace(PAGE, outlines=PAGE.outlines[:1]))
    pictures = [a["href"] or "" for tag, a in tags.tags if tag == "image"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[3].split(",")[1]))))
    assert shown.shape == GRID.shape[1:]
    assert np.corrcoef(shown.ravel(), IMAGE.array[6].ravel())[0, 1] > 0.999
    paths = [a["d"] for tag, a in tags.tags if tag == "path"]
    assert paths == ["M6 4h6M6 9h6M6 4v5M12 4v5"] * 3


def test_a_large_slice_is_thinned_but_its_outline_is_not() -> None:
    grid = regular_grid((1, 1100, 1100), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, np.bool_)
    mask[0, 501:502, 703:704] = True
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    tags = parsed(replace(PAGE, volume=volume, outlines=(Outline("dot", (1, 2, 3), mask),)))
    (picture,) = (a for tag, a in tags.tags if tag == "image")
    assert Image.open(io.BytesIO(base64.b64decode((picture["href"] or "").split(",")[1]))).size == (367, 367)
    assert (picture["width"], picture["height"]) == ("1101", "1101")
    assert [a["d"] for tag, a in tags.tags if tag == "path"] == ["M703 501h1M703 502h1M703 501v1M704 501v1"]


def test_a_page_without_images_says_so() -> None:
    text = result_html(replace(PAGE, volume=None))
    assert "not at hand" in text
    assert "<figure" not in text


def test_the_notice_stands_before_everything_else() -> None:
    text = result_html(PAGE)
    assert text.index("Research use only.") < text.index("<h2>")
    assert result_html(PAGE) == text
