"""Tables of measurements: CSV that no spreadsheet runs, JSON that any program reads."""

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.files.measurements import FORMAT, MeasurementRow, to_csv, to_json

ROW = MeasurementRow("Anterior", 1, "L", "Volume", "SCT:118565006", 2.25, "mL", "1.2.3")
ABOUT: dict[str, str | list[str]] = {"study": "1.2", "source_series": ["1.2.1"], "notices": ["Research use only."]}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_line_names_what_it_measures() -> None:
    assert read(to_csv([ROW], ABOUT)) == [
        {
            "label": "Anterior",
            "segment": "1",
            "side": "L",
            "quantity": "Volume",
            "quantity_code": "SCT:118565006",
            "value": "2.25",
            "unit": "mL",
            "tracking_uid": "1.2.3",
            "evaluation": "",
            "study_uid": "1.2",
            "series_uid": "1.2.1",
            "notice": "Research use only.",
        }
    ]


@given(TEXTS, st.floats(allow_nan=False, allow_infinity=False))
def test_csv_keeps_texts_and_numbers(label: str, value: float) -> None:
    (row,) = read(to_csv([MeasurementRow(label, None, "", "Volume", "c", value, "mL")], ABOUT))
    assert row["label"].removeprefix("'") == label.removeprefix("'")
    assert float(row["value"]) == pytest.approx(value, rel=6e-4, abs=0)
    assert not row["label"].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_what_is_not_a_number_is_empty_or_null() -> None:
    row = MeasurementRow("A", 1, "", "Volume", "c", math.nan, "mL")
    assert read(to_csv([row], ABOUT))[0]["value"] == ""
    assert json.loads(to_json([row], {}))["measurements"][0]["value"] is None


@pytest.mark.parametrize(
    ("value", "said"), [(28.178005607210743, 28.178), (1954.0000001, 1954.0), (0.00071234567, 0.0007123), (0.0, 0.0)]
)
def test_digits_that_nobody_measured_are_left_out(value: float, said: float) -> None:
    row = MeasurementRow("A", 1, "", "Volume", "c", value, "mL")
    assert float(read(to_csv([row], ABOUT))[0]["value"]) == said
    assert json.loads(to_json([row], {}))["measurements"][0]["value"] == said


def test_an_unknown_side_is_said() -> None:
    row = MeasurementRow("A", 1, "", "Volume", "c", 1.0, "mL")
    assert read(to_csv([row], ABOUT))[0]["side"] == "unknown"
    assert json.loads(to_json([row], {}))["measurements"][0]["side"] == "unknown"


def test_json_says_what_it_is_about() -> None:
    found = json.loads(to_json([ROW], {"study": "1.2", "notices": ["Research use only."]}))
    assert found["format"] == FORMAT
    assert found["study"] == "1.2"
    assert found["measurements"][0]["value"] == 2.25
