"""Text of patients and of ours, in whatever script: written so that others read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from residency.dicom.part10 import encode
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.dicom.wording import UTF8, character_set, decimal, long_text, one_line
from residency.findings import Findings
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]

FOREIGN = ("chinese_gb18030", "chinese_utf8", "greek", "japanese_h31", "korean_multi", "russian")


def series_of(terms: Sequence[str] | str | None, name: str) -> SourceSeries:
    grid = regular_grid((3, 6, 6), (1.0, 1.0, 1.0))
    image = Volume(np.zeros(grid.shape, dtype=np.float32), grid)
    return open_series(mr_series(image, SpecificCharacterSet=terms, PatientName=name))


def terms_of(dataset: Dataset) -> list[str]:
    found = dataset.get("SpecificCharacterSet") or []
    return [found] if isinstance(found, str) else list(found)


def read(data: bytes) -> Dataset:
    dataset = pydicom.dcmread(BytesIO(data))
    dataset.decode()
    return dataset


def stored_name(data: bytes) -> bytes:
    """Patient's Name byte for byte as the file holds it, without what may follow: padding, empty groups, a reset."""
    name = bytes(pydicom.dcmread(BytesIO(data)).get_item("PatientName").value)
    return name.rstrip(b" ").removesuffix(b"\x1b(B").rstrip(b"=")


class TestPatients:
    @pytest.mark.parametrize("script", FOREIGN)
    def test_a_name_keeps_its_script_and_its_character_set(
        self,
        script: str,
        shared_data: Path,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Callable[[bytes], list[str]],
    ) -> None:
        """A name that comes back as question marks is another patient to a registry."""
        file = shared_data / "dicom" / "awkward" / f"cs_{script}.dcm"
        original = pydicom.dcmread(file)
        name, terms = str(original.PatientName), terms_of(original)
        source = series_of(original.SpecificCharacterSet, name)
        findings = findings_on(source, np.ones(source.grid.shape, dtype=np.bool_))
        seg = segmentation(findings, source, identity_of(source))
        sr = report(findings, source, identity_of(source), seg)
        for instance in (seg, sr):
            written = read(instance.data)
            assert str(written.PatientName) == name
            assert terms_of(written) == terms
            assert stored_name(instance.data) == stored_name(file.read_bytes())
            # Some of these names have no caret: that is how they came.
            assert all("Retired Person Name form" in warning for warning in dciodvfy(instance.data))

    def test_our_text_may_need_more_than_the_source_can_express(
        self, findings_on: Make, identity_of: Identify, dcmdump: Callable[[bytes], str]
    ) -> None:
        source = series_of("ISO_IR 100", "Müller^Jürgen")
        reason = "rule βeta: Σ of evidence"
        findings = findings_on(source, np.ones(source.grid.shape, dtype=np.bool_), reasons=(reason,))
        seg = segmentation(findings, source, identity_of(source))
        sr = report(findings, source, identity_of(source), seg)
        assert terms_of(read(seg.data)) == ["ISO_IR 100"]
        assert terms_of(read(sr.data)) == [UTF8]
        for instance in (seg, sr):
            assert str(read(instance.data).PatientName) == "Müller^Jürgen"
        assert reason in dcmdump(sr.data)

    def test_bytes_without_a_character_set_are_read_as_latin_1_and_written_as_unicode(
        self, findings_on: Make, identity_of: Identify
    ) -> None:
        source = series_of("ISO_IR 100", "Müller^Jürgen")
        for dataset in source.datasets:
            del dataset.SpecificCharacterSet
        findings = findings_on(source, np.ones(source.grid.shape, dtype=np.bool_))
        written = read(segmentation(findings, source, identity_of(source)).data)
        assert str(written.PatientName) == "Müller^Jürgen"
        assert terms_of(written) == [UTF8]

    def test_plain_ascii_needs_no_character_set(self, findings_on: Make, identity_of: Identify) -> None:
        source = series_of(None, "Plain^Name")
        findings = findings_on(source, np.ones(source.grid.shape, dtype=np.bool_))
        assert "SpecificCharacterSet" not in read(segmentation(findings, source, identity_of(source)).data)

    @pytest.mark.parametrize("terms", ["ISO_IR 6", ["", "ISO 2022 IR 149"], ["ISO 2022 IR 6", "ISO 2022 IR 87"]])
    def test_the_default_repertoire_holds_no_latin_1(
        self, terms: str | list[str], findings_on: Make, identity_of: Identify, dcmdump: Callable[[bytes], str]
    ) -> None:
        """Written as Latin-1 bytes under a term that means ASCII, our text is garbage to every other reader."""
        source = series_of(terms, "Hong^Gildong")
        findings = findings_on(source, np.ones((3, 6, 6), dtype=np.bool_), reasons=("Größe 5 °, naïve",))
        sr = report(findings, source, identity_of(source), None)
        assert terms_of(pydicom.dcmread(BytesIO(sr.data))) == [UTF8]
        assert "Größe 5 °, naïve" in dcmdump(sr.data)

    def test_half_width_katakana_keep_quiet_and_whole(self, findings_on: Make, identity_of: Identify) -> None:
        placeholder, name = "Q" * 8, b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"
        grid = regular_grid((3, 6, 6), (1.0, 1.0, 1.0))
        image = Volume(np.zeros(grid.shape, dtype=np.float32), grid)
        made = mr_series(image, SpecificCharacterSet="ISO_IR 13", PatientName=placeholder)
        source = open_series(data.replace(placeholder.encode(), name) for data in made)
        seg = segmentation(findings_on(source, np.ones((3, 6, 6), dtype=np.bool_)), source, identity_of(source))
        assert str(pydicom.dcmread(BytesIO(seg.data)).PatientName) == "ﾔﾏﾀﾞ^ﾀﾛｳ"

    def test_an_unknown_character_set_becomes_unicode(self) -> None:
        dataset = Dataset()
        dataset.StudyDescription = "plain"
        assert character_set(dataset, ("ISO_IR 9999",)) == [UTF8]


@given(
    terms=st.sampled_from(
        [
            (),
            ("ISO_IR 100",),
            ("ISO_IR 126",),
            ("ISO_IR 144",),
            ("ISO_IR 13",),
            ("GB18030",),
            ("GBK",),
            ("ISO_IR 192",),
            ("", "ISO 2022 IR 87"),
            ("ISO 2022 IR 6", "ISO 2022 IR 149"),
            ("ISO 2022 IR 13", "ISO 2022 IR 87"),
            ("", "ISO 2022 IR 100", "ISO 2022 IR 144"),
        ]
    ),
    text=st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Zs", "Zl", "Zp"), exclude_characters="\\"),
        min_size=1,
        max_size=20,
    )
    | st.text(st.sampled_from("aäβДΣ山田太郎やまだ김희중한글小东東"), min_size=1, max_size=20),
)
def test_any_text_survives_in_the_character_set_that_is_chosen(terms: tuple[str, ...], text: str) -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66", "1.2.3"
    dataset.StudyDescription = "fixed"
    item = Dataset()
    item.TextValue = text
    dataset.ContentSequence = [item]
    chosen = character_set(dataset, terms)
    if chosen:
        dataset.SpecificCharacterSet = chosen
    assert read(encode(dataset).data).ContentSequence[0].TextValue == text


class TestFitting:
    @given(st.text(max_size=200), st.integers(8, 64))
    def test_one_line_fits_and_shows_where_it_was_cut(self, text: str, limit: int) -> None:
        line = one_line(text, limit)
        assert len(line) <= limit
        assert "\\" not in line
        assert line.isprintable() or not text.isprintable()
        assert one_line(line, limit) == line
        whole = one_line(text, 10_000)
        assert line == whole or (line.endswith("...") and whole.startswith(line[:-3]))

    @given(st.text(max_size=200), st.integers(8, 64))
    def test_long_text_fits_and_shows_where_it_was_cut(self, text: str, limit: int) -> None:
        found = long_text(text, limit)
        assert len(found) <= limit
        whole = long_text(text, 10_000)
        assert found == whole or found.endswith("...")

    @given(
        st.floats(-1e300, 1e300)
        | st.integers(-12, 12).map(lambda n: float(np.nextafter(10.0**n, 0.0)))
        | st.integers(-12, 12).map(lambda n: -float(np.nextafter(10.0**n, 0.0)))
    )
    def test_a_number_fits_a_decimal_string(self, value: float) -> None:
        """Ten voxels of an oblique series have 9.999999999999998 mm3; a character too many, and readers refuse all."""
        text = decimal(value)
        assert len(text) <= 16
        assert float(text) == pytest.approx(value, rel=1e-8)
        assert text != "-0.0"
