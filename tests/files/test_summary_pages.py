"""Summary pages: what is found is seen, told apart and named; what nobody verified says so on every page."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.codes import Code
from residency.files.lettering import NOT_SHOWN, fitted, font, shown, spelled, wrapped
from residency.files.sheet import SIDE, Summary
from residency.files.summary import MOST_KEY_SLICES, MOST_PAGES, outlines, summary_pages
from residency.findings import (
    ClassScore,
    Findings,
    Measurement,
    ModelReference,
    Picture,
    ScoreMap,
    Segment,
    Structure,
)
from residency.measure import ASYMMETRY, INTRACRANIAL_SHARE, PERCENT, RATIO, measure, volume_measurements
from residency.volume import Grid, Space, Volume, regular_grid

ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical structure")
HIPPOCAMPUS = Code(scheme="SCT", value="5366008", meaning="Hippocampus")
GRID = regular_grid((9, 40, 50), (3.0, 1.0, 1.0))
AMBER = (255, 176, 0)
SCRIPTS = ("海馬", "ιππόκαμπος", "гиппокамп", "해마", "حصين")


def sct(value: str, meaning: str) -> Code:
    return Code(scheme="SCT", value=value, meaning=meaning)


MODEL = ModelReference(
    family="hippocampus",
    name="Hippocampus U-Net",
    version="1.2.3",
    digest="sha256:" + "0123456789abcdef" * 4,
    publisher="residency.example",
    manifest_uid="2.25.11",
    manifest_sop_class="1.2.840.10008.5.1.4.1.1.66",
    study_uid="2.25.12",
    series_uid="2.25.13",
    engine="OpenVINO",
    precision="f32",
    notice="Research use; not a medical device.",
    approval="not approved at this site: research use",
    threshold="largest score",
)


def segment(number: int, mask: np.ndarray, **changes: object) -> Segment:
    given = {"label": f"part {number}", "category": sct("123037004", "Anatomy"), "type": sct("5366008", "Hippocampus")}
    return Segment(number=number, mask=mask, **(given | changes))  # type: ignore[arg-type]


def disc(k: int, row: int, column: int, radius: int = 4, grid: Grid = GRID) -> np.ndarray:
    """A ball-like mask that is widest on slice k."""
    z, y, x = np.ogrid[tuple(slice(n) for n in grid.shape)]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= (radius - abs(z - k)) ** 2) & np.asarray(
        abs(z - k) < radius
    )


def ratio(value: float) -> Measurement:
    return Measurement(ASYMMETRY, value, RATIO)


def percent(value: float) -> Measurement:
    return Measurement(INTRACRANIAL_SHARE, value, PERCENT)


def pages_of(findings: Findings, **changes: object) -> tuple[Picture, ...]:
    image = Volume(np.zeros(findings.grid.shape, np.float32), findings.grid)
    return summary_pages(replace(Summary(findings, image, (0.0, 1.0), ("L", "P")), **changes))  # type: ignore[arg-type]


def found(*masks: np.ndarray, grid: Grid = GRID, **changes: object) -> Findings:
    segments = tuple(segment(n, mask) for n, mask in enumerate(masks, 1))
    given = {"segments": segments, "measurements": measure(segments, grid).measurements}
    return Findings(grid, MODEL, **(given | changes))  # type: ignore[arg-type]


def holds(page: Picture, colour: tuple[int, int, int], below: int = 100) -> bool:
    """The colour stands somewhere under the head of the page."""
    return bool((page.pixels[below:] == colour).all(axis=2).any())


def scores(count: int) -> tuple[ClassScore, ...]:
    return tuple(
        ClassScore(sct(f"{1000 + n}", f"class {n}"), n / count, f"class {n}", 2 * n > count) for n in range(count)
    )


class TestEveryPage:
    @pytest.mark.parametrize(
        "findings",
        [
            found(disc(2, 10, 12), disc(6, 25, 30)),
            found(),
            found(classes=scores(20)),
            found(maps=(ScoreMap(sct("1", "Attention"), sct("1", "1"), np.ones(GRID.shape, np.float32)),)),
            found(*(disc(n % 9, 5 + n, 5 + n) for n in range(30))),
        ],
        ids=["segments", "nothing", "classes", "map", "many segments"],
    )
    def test_it_says_that_nobody_verified_it(self, findings: Findings) -> None:
        """Whoever sees one page alone must not take it for a reading."""
        made = pages_of(findings)
        assert 1 <= len(made) <= MOST_PAGES
        for page in made:
            assert page.pixels.shape == (SIDE, SIDE, 3)
            assert page.pixels.dtype == np.uint8
            banner = page.pixels[:46]
            assert ((banner == AMBER).all(axis=2)).mean() > 0.8
            assert (banner == 0).all(axis=2).sum() > 500, "black letters on it"
            assert all(0 <= k < GRID.shape[0] for k in page.slices)

    def test_equal_findings_give_equal_pixels(self) -> None:
        findings = found(disc(2, 10, 12), disc(6, 25, 30), classes=scores(3))
        for one, other in zip(pages_of(findings), pages_of(findings), strict=True):
            assert np.array_equal(one.pixels, other.pixels)

    def test_text_changes_with_the_model(self) -> None:
        findings = found(disc(2, 10, 12))
        other = replace(findings, model=replace(MODEL, version="1.2.4"))
        assert not np.array_equal(pages_of(findings)[0].pixels, pages_of(other)[0].pixels)


class TestSegments:
    def test_each_has_its_largest_cut_as_a_key_slice(self) -> None:
        made = pages_of(found(disc(2, 10, 12), disc(6, 25, 30)))
        assert [page.title for page in made] == ["overview", "key slice of 1 part 1", "key slice of 2 part 2"]
        assert [page.slices for page in made[1:]] == [(2,), (6,)]

    def test_segments_with_one_largest_cut_share_a_page(self) -> None:
        made = pages_of(found(disc(4, 10, 12), disc(4, 25, 30)))
        assert [page.title for page in made] == ["overview", "key slice of 1 part 1, 2 part 2"]

    def test_many_segments_keep_the_number_of_pages_and_all_their_measurements(self) -> None:
        made = pages_of(found(*(disc(n % 9, 5 + n, 5 + n, radius=3) for n in range(30))))
        assert sum(page.title.startswith("key slice") for page in made) <= MOST_KEY_SLICES
        assert made[-1].title == "measurements"
        assert holds(made[0], AMBER)

    def test_their_outlines_are_drawn_in_the_colours_of_the_legend(self) -> None:
        findings = found(disc(4, 10, 12), disc(4, 25, 30))
        for page in pages_of(findings):
            for one in outlines(findings):
                assert holds(page, one.colour)

    def test_a_segment_of_one_pixel_is_seen_on_a_large_radiograph(self) -> None:
        grid = Grid((1, 2500, 2100), np.diag([1.0, 0.14, 0.14, 1.0]), None, Space.DETECTOR)
        mask = np.zeros(grid.shape, np.bool_)
        mask[0, 1203, 881] = True
        findings = found(mask, grid=grid, measurements=())
        [page] = pages_of(findings)
        assert holds(page, outlines(findings)[0].colour)

    @pytest.mark.parametrize("colour", [None, (255, 0, 0), (0, 0, 0), (0, 0, 255)])
    def test_colours_can_be_told_apart_and_seen(self, colour: tuple[int, int, int] | None) -> None:
        """A card may name black, or one colour twice."""
        segments = tuple(segment(n, disc(4, 10, 12), colour=colour) for n in range(1, 21))
        colours = [one.colour for one in outlines(Findings(GRID, MODEL, segments))]
        assert all(0.3 * red + 0.6 * green + 0.1 * blue > 55 for red, green, blue in colours)
        apart = [math.dist(a, b) for a, b in combinations(colours, 2)]
        assert min(apart) >= 40.0

    def test_whole_structures_and_what_the_step_before_measured_are_told(self) -> None:
        """Each number of a cascade can be read off the page: another number is another page."""

        def overview(left: float, compared: float, share: float, inside: float, network: str) -> np.ndarray:
            wholes = (
                Structure("Hippocampus, left and right", ANATOMY, HIPPOCAMPUS, (ratio(compared),), both_sides=True),
                Structure("Hippocampus, left", ANATOMY, HIPPOCAMPUS, (*volume_measurements(left), percent(share))),
            )
            cavity = Structure("Intracranial volume", ANATOMY, HIPPOCAMPUS, volume_measurements(inside))
            before = Findings(GRID, replace(MODEL, name=network), structures=(cavity,))
            return pages_of(found(disc(2, 10, 12), structures=wholes, before=before))[0].pixels

        told = (4193.0, 0.012, 0.211, 1993408.0, "Head")
        pages = [overview(*told)]
        for place, other in enumerate((4203.0, 0.013, 0.212, 1994408.0, "Skull")):
            pages.append(overview(*(other if n == place else value for n, value in enumerate(told))))  # type: ignore[arg-type]
        assert not any(np.array_equal(one, other) for one, other in combinations(pages, 2))

    def test_nothing_found_is_said(self) -> None:
        empty = pages_of(found(warnings=("nothing found of class 'tumour'",)))
        assert [page.title for page in empty] == ["overview"]
        assert not np.array_equal(empty[0].pixels, pages_of(found())[0].pixels)


class TestClassesAndMaps:
    def test_probabilities_are_bars_and_the_found_ones_come_first(self) -> None:
        one = pages_of(found(classes=scores(4)))[0]
        assert one.title == "class probabilities"
        at_two_thirds = one.pixels[100:, 450 + 200]
        bars = [tuple(int(v) for v in pixel) for pixel in at_two_thirds if tuple(pixel) in (AMBER, (60, 60, 60))]
        assert bars == [AMBER] * 14 + [(60, 60, 60)] * 42, "the one of 75 % is first and reaches farther, three do not"
        assert len(pages_of(found(classes=scores(40)))) == 3

    def test_a_map_lies_over_the_slices_where_it_is_largest(self) -> None:
        values = np.zeros(GRID.shape, np.float32)
        values[5, 10:20, 10:20] = 0.9
        page = pages_of(found(maps=(ScoreMap(sct("1", "Attention"), sct("1", "1"), values),)))[0]
        assert 5 in page.slices
        coloured = page.pixels[130:900].max(axis=2).astype(int) - page.pixels[130:900].min(axis=2)
        assert (coloured > 60).any()

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
    def test_a_map_without_contrast_is_drawn_all_the_same(self, value: float) -> None:
        values = np.full(GRID.shape, value, np.float32)
        assert pages_of(found(maps=(ScoreMap(sct("1", "Attention"), sct("1", "1"), values),)))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    spacing=st.tuples(*[st.sampled_from([0.05, 1.0, 30.0])] * 3),
    values=st.sampled_from([0.0, 1e-40, -1e30, np.nan, np.inf]),
)
def test_any_shape_of_image_gives_pages(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], values: float
) -> None:
    grid = regular_grid(shape, spacing)
    image = Volume(np.full(shape, values, np.float32), grid)
    findings = found(np.ones(shape, np.bool_), grid=grid, measurements=())
    assert pages_of(findings, volume=image)


class TestLettering:
    @pytest.mark.parametrize("text", SCRIPTS)
    def test_a_label_in_another_script_is_shown_as_what_its_code_means(self, text: str) -> None:
        """Drawn as it stands it would be a row of boxes."""
        assert spelled(text) is None
        assert shown(f"{text} 1.0") == f"{NOT_SHOWN} 1.0"
        named = outlines(Findings(GRID, MODEL, (segment(1, disc(4, 10, 12), label=text),)))
        assert named[0].label == "Hippocampus"
        coded = outlines(Findings(GRID, MODEL, (segment(1, disc(4, 10, 12), label=text, type=sct("77", text)),)))
        assert coded[0].label == "SCT 77"

    @given(st.text(max_size=40))
    def test_whatever_is_drawn_is_ascii(self, text: str) -> None:
        assert shown(text).isascii()
        assert shown(text).isprintable()

    @given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=200), st.integers(60, 400))
    def test_no_line_is_wider_than_its_room(self, text: str, width: int) -> None:
        line = fitted(text, 15, width)
        assert font(15).getlength(line) <= width
        assert line == shown(text) or line.endswith("...")
        assert all(font(15).getlength(one) <= width for one in wrapped(text, 15, width, 2))
        assert len(wrapped(text, 15, width, 2)) <= 2

    def test_letters_lie_alike_whatever_the_machine_has(self) -> None:
        """The other layout engine is a library of the system, present or not."""
        from PIL import ImageFont

        assert font(15).layout_engine == ImageFont.Layout.BASIC
