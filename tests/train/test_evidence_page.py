"""The report of a validation: whole in itself, closed to the outside, deaf to markup, bounded, and no face in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residency.metrics import Bin
from residency.train.evidence.found import Evidence, found_in
from residency.train.evidence.pictures import MARGIN_MM, Section, sections
from residency.train.evidence.rows import Answer, Row
from residency.train.pages.charts import covering, thinned
from residency.train.pages.evidence import EvidencePage, evidence_html
from residency.train.pages.figures import Curve, Logged
from residency.volume import Volume, regular_grid

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&"
CLASSES = ("background", "ball", "shell")


def a_row(number: int, name: str = "", site: str = "A") -> Row:
    dice = 0.5 + 0.4 * (number * 0.618 % 1)
    figures = {
        "dice": dice,
        "surface_dice": dice,
        "hd95": float("inf") if number == 3 else 1 / dice,
        "mean_surface_distance": 0.3,
        "volume_error": 0.1 - 0.2 * dice,
        "relative_volume_error": 0.1,
        "sensitivity": dice,
        "precision": dice,
    }
    return Row(
        name or f"c{number}",
        f"p{number // 2}",
        0.1,
        figures={"ball": figures, "shell": figures},
        volumes={"ball": (1.1, 1.0 + dice), "shell": (2.0, 2.0 + dice)},
        reliability={"ball": (Bin(0.0, 0.5, 70, 0.2, 0.1), Bin(0.5, 1.0, 30, 0.8, 0.9))},
        columns={"site": site},
    )


def an_answer() -> Answer:
    """A ball of bright voxels in noise; everything else in the image is marked by a value of its own."""
    grid = regular_grid((20, 64, 64), (1.0, 1.0, 1.0))
    distance = np.linalg.norm(np.stack(np.indices(grid.shape), -1) - (10, 40, 40), axis=-1)
    wanted, said = distance < 5, distance < 6
    array = np.where(distance < 5, 50.0, 30.0)
    array[:, :25, :] = 1000.0  # a face
    shell = np.zeros_like(wanted)
    return Answer(Volume(array.astype(np.float32), grid), (said, shell), (wanted, shell), None)


def a_page(rows: list[Row] | None = None, evil: str = "") -> EvidencePage:
    rows = rows or [a_row(n, site="AB"[n % 2]) for n in range(12)]
    told = {name: evil or name for name in ("title", "judged", "cohort", "caution")}
    evidence = found_in(rows, CLASSES, 1, theirs=rows, against_what=evil or "the other", **told)
    log = tuple(
        Logged(n, 2 / (1 + n / 50), 0.8 - 0.5 / n if n % 40 == 0 else None, 20.0 + n % 7, 0.02) for n in range(1, 401)
    )
    return EvidencePage(
        evidence,
        curves=(Curve(evil or "", log, 360),),
        chosen_by=evil or "mean Dice",
        worst=((evidence.worst[0], sections(an_answer(), CLASSES)),),
        missing=((evil or "identity", evil or "name"),),
        draft=evil or "task: segmentation",
        settings=evil or "seed: 1",
    )


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data


def test_the_page_needs_nothing_from_outside() -> None:
    text = evidence_html(a_page())
    for tag, attributes in Tags(text).tags:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
        for name, value in attributes.items():
            assert name not in ("srcset", "action", "style"), tag
            assert not name.startswith("on"), tag
            if name in ("src", "href"):
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "#s"))
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp|WebSocket|innerHTML|eval\(", text)


def test_the_policy_admits_this_script_and_style_only() -> None:
    tags = Tags(evidence_html(a_page()))
    (policy,) = (
        a["content"] for tag, a in tags.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(tags.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_nothing_that_data_or_cards_say_becomes_markup() -> None:
    rows = [replace(a_row(n), case=f"{EVIL}{n}", person=EVIL, columns={EVIL: f"{EVIL}{n % 2}"}) for n in range(12)]
    tags = Tags(text := evidence_html(a_page(rows, EVIL)))
    assert [tag for tag, _ in tags.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in tags.tags}
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert "<script>alert" not in text


def test_equal_evidence_gives_an_equal_page() -> None:
    assert evidence_html(a_page()) == evidence_html(a_page())


def test_a_page_of_many_cases_stays_small_and_keeps_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.train.pages.evidence.MOST_ROWS", 8)
    page = a_page()
    worst = [row.case for row in page.evidence.worst]
    (told,) = re.findall(r"The 8 worst of 12 cases.*?</table>", evidence_html(page), re.DOTALL)
    assert re.findall(r"<td>(c\d+)</td>", told) == worst[:8]


def decoded(section: Section) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(section.png)))


def test_sections_show_nothing_farther_from_the_structure_than_the_margin() -> None:
    """The bright half of the image begins 9 voxels from the ball's edge: of it no more than the margin reaches."""
    shown = sections(an_answer(), CLASSES)
    assert 1 <= len(shown) <= 3
    for section in shown:
        pixels = decoded(section)
        assert max(pixels.shape) <= 12 + 2 * MARGIN_MM
        structure = np.zeros((64, 64), np.bool_)
        section_at = section.number - 1
        distance = np.linalg.norm(np.stack(np.indices((20, 64, 64)), -1) - (10, 40, 40), axis=-1)[section_at]
        structure |= distance < 6
        rows, columns = np.nonzero(pixels)
        spots = np.stack([rows + 35 - MARGIN_MM, columns + 35 - MARGIN_MM], axis=1)
        inside = np.argwhere(structure)
        nearest = np.sqrt(((spots[:, None] - inside[None]) ** 2).sum(-1)).min(axis=1)
        assert nearest.max() <= MARGIN_MM
        assert (pixels == 0).any()


def test_sections_of_a_sagittal_series_are_axial() -> None:
    answer = an_answer()
    turned = np.array(answer.volume.grid.affine)[:, [2, 0, 1, 3]]  # slices to the left
    grid = replace(answer.volume.grid, affine=turned)
    assert grid.orientation[0] in "LR"
    (first, *_) = sections(Answer(Volume(answer.volume.array, grid), answer.masks, answer.wanted, None), CLASSES)
    assert (first.rows, first.columns) != (0, 0)
    assert first.number > 20  # there are 20 slices, and more axial sections


def test_charts_have_room_for_all_values_and_bounded_points() -> None:
    low, high = covering([0.13, 0.87])
    assert low <= 0.13
    assert high >= 0.87
    assert covering([]) == (0.0, 1.0)
    assert covering([5.0, float("nan")], low=0.0)[0] == 0.0
    points = [(float(n), 1.0) for n in range(5000)]
    assert len(thinned(points)) <= 600
    assert thinned([(0.0, float("nan")), (1.0, 2.0)]) == [(1.0, 2.0)]


def of_classes() -> Evidence:
    rows = [
        Row(f"c{n}", f"p{n}", 0.1, probabilities=(1 - p, p), truth=int(p > 0.4)) for n, p in enumerate((0.1, 0.6, 0.9))
    ]
    return found_in(rows, ("well", "ill"), 1, title="t", judged="j", cohort="c", caution="d")


def test_a_classification_shows_its_confusion() -> None:
    text = evidence_html(EvidencePage(of_classes()))
    assert "Confusion" in text
    assert "1 (100 %)" in text
    assert "2 (100 %)" in text


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no browser to open the page in: apt install chromium")
    return found


def opened(browser: str, page: str, folder: Path) -> tuple[str, str, set[str]]:
    """A page opened from a file, with no way out: its elements then, the browser's log, and what the page asked for."""
    folder.mkdir()
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        f"--log-net-log={folder / 'net.json'}",
        "--enable-logging=stderr",
        "--dump-dom",
        (folder / "page.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    events = [event.get("params", {}) for event in json.loads((folder / "net.json").read_text())["events"]]
    # What the browser asks for by itself, and the page as a whole, have no page that asked for them.
    asked = {event["url"] for event in events if event.get("initiator", "not an origin") != "not an origin"}
    return done.stdout, done.stderr, asked


def test_a_browser_shows_it_without_asking_anybody_and_without_an_error(browser: str, tmp_path: Path) -> None:
    """Opened in Chromium: nothing is asked for, nothing stands on the console, and the script has run."""
    elements, told, asked = opened(browser, evidence_html(a_page()), tmp_path / "ours")
    assert "CONSOLE" not in told, told[-2000:]
    assert elements.count("<th><button") + elements.count('<th class="n"><button') > 10
    assert not asked
    # The same way of looking finds what a page without such a policy does.
    leaks = "<!doctype html><img src='http://198.51.100.7/x.png'><script>nothing()</script>"
    _, told, asked = opened(browser, leaks, tmp_path / "theirs")
    assert asked == {"http://198.51.100.7/x.png"}
    assert "CONSOLE" in told
