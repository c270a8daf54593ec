"""Relations of regions: is-a, part-of, and whether what a study shows is what a model needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.codes import Code, Kind, Relation, is_a, part_of, region_of_body_part, relate, stored

HIPPOCAMPUS = Code(scheme="SCT", value="5366008", meaning="Hippocampus")

regions = st.sampled_from(sorted({row[1] for row in stored.rows("body_parts")} | {"5366008", "49848007"})).map(
    lambda value: Code(scheme="SCT", value=value, meaning="some region")
)


def region(term: str) -> Code:
    found = region_of_body_part(term)
    assert found is not None
    return found


class TestPartOf:
    def test_hops_are_counted(self) -> None:
        assert part_of(HIPPOCAMPUS, region("BRAIN")) == 1
        assert part_of(HIPPOCAMPUS, region("HEAD")) == 3
        assert part_of(HIPPOCAMPUS, region("ABDOMEN")) is None

    def test_a_kind_of_a_part_is_a_part(self) -> None:
        assert is_a(region("THUMB"), region("FINGER")) == 1
        assert part_of(region("THUMB"), region("HAND")) == 1

    def test_a_kind_is_no_part_and_a_part_is_no_kind(self) -> None:
        assert part_of(region("THUMB"), region("FINGER")) is None
        assert is_a(region("LIVER"), region("ABDOMEN")) is None

    @given(regions, regions)
    def test_nothing_is_part_of_its_own_part(self, a: Code, b: Code) -> None:
        assert not (part_of(a, b) and part_of(b, a))
        assert not (is_a(a, b) and is_a(b, a))

    @given(regions, regions, regions)
    def test_part_of_is_transitive(self, a: Code, b: Code, c: Code) -> None:
        first, second = part_of(a, b), part_of(b, c)
        if first and second:
            through = part_of(a, c)
            assert through is not None
            assert through <= first + second


class TestRelate:
    @pytest.mark.parametrize(
        ("study", "model", "relation"),
        [
            ("BRAIN", "BRAIN", Relation(Kind.EXACT)),
            ("HEAD", "BRAIN", Relation(Kind.CONTAINS, 2)),
            ("ABDOMEN", "PANCREAS", Relation(Kind.CONTAINS, 1)),
            ("CHESTABDPELVIS", "ABDOMEN", Relation(Kind.CONTAINS, 1)),
            ("CHESTABDPELVIS", "LIVER", Relation(Kind.CONTAINS, 2)),
            ("CHESTABDOMEN", "PELVIS", Relation(Kind.DISJOINT)),
            ("HEADNECK", "CAROTID", Relation(Kind.CONTAINS, 1)),
            ("LUNG", "CHEST", Relation(Kind.PARTIAL, 1)),
            ("ABDOMEN", "CHESTABDPELVIS", Relation(Kind.PARTIAL, 1)),
            ("KNEE", "BRAIN", Relation(Kind.DISJOINT)),
            ("LFEMORALA", "FEMORALA", Relation(Kind.EXACT)),
            ("FEMORALA", "LFEMORALA", Relation(Kind.UNSURE)),
            ("PHANTOM", "WHOLEBODY", Relation(Kind.DISJOINT)),
        ],
    )
    def test_table(self, study: str, model: str, relation: Relation) -> None:
        assert relate(region(study), region(model)) == relation

    def test_regions_listed_one_by_one_are_the_combined_region(self) -> None:
        listed = [region("PELVIS"), region("CHEST"), region("ABDOMEN")]
        assert relate(listed, region("CHESTABDPELVIS")).kind is Kind.EXACT
        assert relate(region("CHESTABDPELVIS"), listed).kind is Kind.EXACT

    def test_old_and_new_codes_of_the_abdomen_are_one_region(self) -> None:
        old = Code(scheme="SCT", value="113345001", meaning="Abdominal structure")
        legacy = Code(scheme="SRT", value="T-D4000", meaning="Abdomen")
        assert relate(old, region("ABDOMEN")).kind is Kind.EXACT
        assert relate(legacy, region("LIVER")) == Relation(Kind.CONTAINS, 1)

    def test_a_model_of_two_regions_needs_both(self) -> None:
        both = [region("LIVER"), region("HEART")]
        assert relate(region("ABDOMEN"), both).kind is Kind.PARTIAL
        assert relate(region("CHESTABDOMEN"), both).kind is Kind.CONTAINS

    def test_a_code_of_another_scheme_relates_only_to_itself(self) -> None:
        local = Code(scheme="99LOCAL", value="12738006", meaning="Something else")
        assert relate(local, local).kind is Kind.EXACT
        assert relate(local, region("BRAIN")).kind is Kind.DISJOINT

    def test_no_region_relates_to_nothing(self) -> None:
        assert relate([], region("BRAIN")).kind is Kind.DISJOINT

    @given(st.lists(regions, min_size=1, max_size=4), st.lists(regions, min_size=1, max_size=3))
    def test_order_is_irrelevant(self, study: list[Code], model: list[Code]) -> None:
        assert relate(study, model) == relate(study[::-1], model[::-1])

    @given(st.lists(regions, min_size=1, max_size=3), regions, regions)
    def test_more_asked_for_never_fits_more(self, study: list[Code], asked: Code, more: Code) -> None:
        fits = (Kind.EXACT, Kind.CONTAINS)
        if relate(study, [asked, more]).kind in fits:
            assert relate(study, asked).kind in fits
