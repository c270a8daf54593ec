"""Codes: legacy ones translated, what people type understood, tables no different from what the script makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from residency.codes import (
    Code,
    body_part_of_region,
    canonical,
    in_group,
    known,
    modality,
    nearest_modality,
    parse_code,
    region_of_body_part,
    typed_code,
)
from residency.errors import CodeError


def code(scheme: str, value: str, meaning: str = "as written by the sender") -> Code:
    return Code(scheme=scheme, value=value, meaning=meaning)


class TestCanonical:
    @pytest.mark.parametrize("scheme", ["SRT", "SNM3", "99SDM"])
    def test_a_legacy_code_becomes_the_present_one(self, scheme: str) -> None:
        assert str(canonical(code(scheme, "T-A2570"))) == "Hippocampus (SCT:5366008)"

    @pytest.mark.parametrize(
        ("legacy", "old", "new"),
        [
            ("T-D4000", "113345001", "818981001"),
            ("T-D3000", "51185008", "816094009"),
            ("T-D6000", "12921003", "816092008"),
            ("R-FAB57", "416949008", "818982008"),
        ],
    )
    def test_both_old_codes_of_the_trunk_become_the_new_one(self, legacy: str, old: str, new: str) -> None:
        """The legacy table leads to the older SNOMED CT code; a study coded either way shows the same region."""
        assert canonical(code("SRT", legacy)) == canonical(code("SCT", old)) == code("SCT", new)

    def test_an_unknown_code_is_left_as_it_is(self) -> None:
        assert canonical(code("SRT", "T-XXXXX")) == code("SRT", "T-XXXXX")
        assert canonical(code("99LOCAL", "1")) == code("99LOCAL", "1")

    def test_a_known_code_carries_the_dictionarys_meaning(self) -> None:
        found = known(code("SCT", "10200004", "Leber"))
        assert found is not None
        assert found.meaning == "Liver"
        assert known(code("SCT", "1")) is None


class TestTypedCodes:
    def test_a_code_is_understood_with_its_meaning(self) -> None:
        assert str(parse_code(" SCT:5366008 ")) == "Hippocampus (SCT:5366008)"
        assert parse_code("SRT:T-D4000") == code("SCT", "818981001")

    def test_a_word_is_refused_with_the_code_it_may_stand_for(self) -> None:
        with pytest.raises(CodeError, match=r"did you mean SCT:5366008 \(Hippocampus\)"):
            parse_code("hippocampus")

    def test_no_code_is_suggested_for_its_digits(self) -> None:
        """Digits that look alike mean nothing alike: Alzheimer's disease is no Weimaraner."""
        with pytest.raises(CodeError, match="not in DICOM's dictionaries; a code from elsewhere"):
            parse_code("SCT:26929004")

    def test_where_only_the_value_matters_any_code_will_do(self) -> None:
        assert typed_code("SCT:26929004") == code("SCT", "26929004")
        assert str(typed_code("SCT:5366008")) == "Hippocampus (SCT:5366008)"
        with pytest.raises(CodeError, match="write SCHEME:VALUE"):
            typed_code("26929004")

    @pytest.mark.parametrize(("text", "meant"), [("MRI", "MR"), ("mr", "MR"), ("C T", "CT"), ("scanner", None)])
    def test_a_modality_is_suggested_where_one_is_near(self, text: str, meant: str | None) -> None:
        near = nearest_modality(text)
        assert (near.value if near else None) == meant

    def test_a_code_from_elsewhere_needs_a_meaning(self) -> None:
        with pytest.raises(CodeError, match="needs its meaning"):
            parse_code("SCT:233604007")
        assert str(parse_code("SCT:233604007=Pneumonia")) == "Pneumonia (SCT:233604007)"

    @pytest.mark.parametrize("text", ["", ":", "SCT:", "SCT", "a b:c", "S" * 20 + ":1", "SCT:1=" + "x" * 65])
    def test_what_is_no_code_is_refused(self, text: str) -> None:
        with pytest.raises(CodeError):
            parse_code(text)


class TestBodyParts:
    def test_a_term_names_its_region(self) -> None:
        assert str(region_of_body_part("brain ")) == "Brain (SCT:12738006)"
        assert region_of_body_part("THORAX") == region_of_body_part("CHEST") == code("SCT", "816094009")

    @pytest.mark.parametrize("term", ["", "HIPPOCROP", "HEAD AND NECK", "KOPF", "UNKNOWN"])
    def test_no_term_has_a_default_region(self, term: str) -> None:
        """Guessing an organ from an unknown word is how a brain model comes to read a knee."""
        assert region_of_body_part(term) is None

    @pytest.mark.parametrize(
        ("value", "term"),
        [
            ("12738006", "BRAIN"),
            ("5366008", "BRAIN"),
            ("64033007", "ABDOMEN"),
            ("39607008", "CHEST"),
            ("816094009", "CHEST"),
            ("80891009", "HEART"),
            ("87953007", "ABDOMENPELVIS"),
            ("74670003", None),
        ],
    )
    def test_written_terms_never_demand_a_side(self, value: str, term: str | None) -> None:
        assert body_part_of_region(code("SCT", value)) == term

    def test_a_legacy_code_is_written_like_the_present_one(self) -> None:
        assert body_part_of_region(code("SRT", "T-D3000")) == "CHEST"


class TestGroups:
    def test_modalities_are_those_of_the_standard(self) -> None:
        assert modality("MR") == code("DCM", "MR")
        assert modality("MRI") is None

    def test_segment_categories_are_carried(self) -> None:
        assert in_group(code("SCT", "91723000"), 7150)
        assert not in_group(code("SCT", "5366008"), 7150)


def test_the_committed_tables_are_what_the_script_makes(repository: Path, tmp_path: Path) -> None:
    """A table edited by hand, or a dictionary that changed under us, must be seen and reviewed."""
    subprocess.run([sys.executable, repository / "tools" / "make_code_tables.py", tmp_path], check=True, timeout=120)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    committed = {f.name: f.read_bytes() for f in (repository / "src" / "residency" / "codes" / "tables").iterdir()}
    assert sorted(made) == sorted(committed)
    assert [name for name in made if made[name] != committed[name]] == []


def test_the_bottom_floor_imports_no_dicom_package_and_reads_no_table_early() -> None:
    text = (
        "import sys, residency.codes; from residency.codes import stored; "
        "assert not {'pydicom', 'highdicom', 'numpy'} & set(sys.modules); assert stored.rows.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
