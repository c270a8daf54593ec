"""Packages are built from files that people write, and cards are shown as pages; the same input, the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from residency.card import parse_card
from residency.card.page import card_page
from residency.errors import CardError, ConfigError, DigestError, GraphError, ManifestError, PackageError
from residency.files.nifti import write_nifti
from residency.files.package import from_files, to_files
from residency.files.pdf import page_pdf
from residency.files.strict_yaml import read_yaml
from residency.models import build, read_folder, write_folder
from residency.models.build import card_data
from residency.package import ModelPackage
from residency.testing.cards import EXAMPLE, example_card
from residency.testing.graphs import threshold_graph
from residency.volume import regular_grid

TRAINING = {
    "training": EXAMPLE["training"],
    "input_statistics": {"spacing_mm": {"LR": {"least": 1, "most": 1}}},
    "recipe": {"steps": [{"name": "orient", "parameters": {"letters": "SPL"}}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to build from: the card without what is measured, the graph, a golden case."""
    card = json.loads(json.dumps(EXAMPLE))
    for measured in ("training", "evaluation", "parameters"):
        del card[measured]
    del card["inputs"][0]["recipe"]
    grid = regular_grid((4, 5, 6), (1, 1, 1))
    image = np.linspace(-1, 1, 120, dtype=np.float32).reshape(4, 5, 6)
    made = tmp_path / "made"
    made.mkdir()
    (made / "card.yaml").write_text(json.dumps(card))  # JSON is YAML
    (made / "training.json").write_text(json.dumps(TRAINING))
    (made / "graph.onnx").write_bytes(threshold_graph())
    (made / "golden-input.nii.gz").write_bytes(write_nifti(image, grid))
    (made / "golden-expected.nii.gz").write_bytes(write_nifti(image > 0, grid))
    (made / "licence.txt").write_text("CC-BY-SA-4.0")
    return made


def test_a_card_is_completed_by_what_was_measured(folder: Path):
    package = build(folder)
    assert package.card.parameters == 4
    assert package.card.inputs[0].recipe.steps[0].name == "orient"
    assert package.card.statistics.spacing_mm["LR"].most == 1
    assert [p.name for p in package.payloads] == [
        "golden-expected.nii.gz",
        "golden-input.nii.gz",
        "graph.onnx",
        "licence.txt",
    ]


def test_the_same_files_give_the_same_digest(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert build(copy).manifest.text == build(folder).manifest.text


def test_figures_of_an_evaluation_enter_the_card(folder: Path):
    figure = {"metric": "Dice", "definition": "overlap", "cohort": "val", "persons": 2, "cases": 4}
    figure |= {"value": 0.9, "low": 0.8, "high": 0.95}
    (folder / "evaluation.json").write_text(json.dumps({"evaluation": [figure]}))
    assert build(folder).card.evaluation[0].value == 0.9


def test_a_recipe_other_than_the_trained_one_is_refused(folder: Path):
    """The network would see other images than it was trained on, and nothing else would show it."""
    text = (folder / "card.yaml").read_text()
    (folder / "card.yaml").write_text(text.replace('"tensor": "image"', '"tensor": "image", "recipe": {"steps": []}'))
    with pytest.raises(ConfigError, match="trained on"):
        build(folder)


@pytest.mark.parametrize(
    "name", ["card.yaml", "graph.onnx", "golden-input.nii.gz", "golden-expected.nii.gz", "licence.txt"]
)
def test_a_missing_file_is_named(name: str, folder: Path):
    (folder / name).unlink()
    with pytest.raises(PackageError, match=name):
        build(folder)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, r"no image for input 'flair'.*golden\.more: \{flair: golden-input-2\.nii\.gz\}"),
        ({"flair": "golden-input.nii.gz"}, "two inputs share an image"),
    ],
)
def test_a_golden_case_that_no_site_could_replay_is_refused(folder: Path, more: dict[str, str], message: str):
    """Before it is signed; the card itself is still read, as one is that is out already."""
    card = json.loads((folder / "card.yaml").read_text())
    card["inputs"].append({**card["inputs"][0], "name": "flair"})
    card["golden"]["more"] = more
    (folder / "card.yaml").write_text(json.dumps(card))
    with pytest.raises(CardError, match=message):
        build(folder)
    assert len(parse_card(card_data(folder, (folder / "graph.onnx").read_bytes())).inputs) == 2


def test_a_graph_that_is_not_the_cards_is_refused(folder: Path):
    (folder / "graph.onnx").write_bytes(threshold_graph(channels=3))
    with pytest.raises(GraphError):
        build(folder)


def test_an_unknown_preparation_is_refused(folder: Path):
    other = TRAINING | {"recipe": {"steps": [{"name": "sharpen"}]}}
    (folder / "training.json").write_text(json.dumps(other))
    with pytest.raises(CardError, match="sharpen"):
        build(folder)


def test_an_unknown_field_is_named_with_the_nearest(folder: Path):
    text = (folder / "card.yaml").read_text()
    (folder / "card.yaml").write_text(text.replace('"licences"', '"licenses"'))
    with pytest.raises(CardError, match="did you mean 'licences'"):
        build(folder)


def test_the_shipped_card_is_complete_but_for_what_is_measured(repository: Path):
    """card.yaml of the shipped model, with figures of training put in as its builder does."""
    data = card_data(repository / "models" / "hippocampus", threshold_graph())
    data |= {"training": EXAMPLE["training"]}
    data["inputs"][0].setdefault("recipe", {"steps": []})
    card = parse_card(data)
    assert card.regulatory.notice == "Research use only. Not a medical device."
    assert card.licences.weights == "CC-BY-SA-4.0"


def test_a_package_survives_its_folder(package: ModelPackage, tmp_path: Path):
    write_folder(tmp_path / "a" / "b", package)
    assert read_folder(tmp_path / "a" / "b") == package
    assert from_files(to_files(package)) == package


def test_a_changed_file_of_a_package_is_named(package: ModelPackage, tmp_path: Path):
    write_folder(tmp_path, package)
    graph = bytearray((tmp_path / "graph.onnx").read_bytes())
    graph[5] ^= 1
    (tmp_path / "graph.onnx").write_bytes(graph)
    with pytest.raises(DigestError, match=r"graph\.onnx"):
        read_folder(tmp_path)


def test_a_file_longer_than_listed_is_not_read(package: ModelPackage, tmp_path: Path):
    write_folder(tmp_path, package)
    (tmp_path / "graph.onnx").write_bytes(package.payload("graph.onnx").data + bytes(1000))
    with pytest.raises(PackageError, match="longer"):
        read_folder(tmp_path)


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(PackageError, match=r"manifest\.json"):
        read_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ManifestError):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\na: 2\n", "given twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid"),
        ("1: x\n", "not text"),
        ("- 1\n", "no keys"),
        ("", "no keys"),
        ("a: [\n", "not valid"),
        ("[" * 100, "nested deeper"),
        ("\x00", "not valid"),
    ],
)
def test_yaml_is_read_strictly(text: str, match: str):
    with pytest.raises(ConfigError, match=match) as raised:
        read_yaml(text.encode(), "card.yaml")
    assert "\n" not in str(raised.value)


def test_yaml_that_is_no_text_or_too_long_is_refused():
    with pytest.raises(ConfigError, match="UTF-8"):
        read_yaml(b"\xff\xfe", "card.yaml")
    with pytest.raises(ConfigError, match="at most"):
        read_yaml(b"#" * (2 << 20), "card.yaml")
    assert read_yaml("a: {b: Grüße}".encode(), "card.yaml") == {"a": {"b": "Grüße"}}


def _every_text(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for item in items for text in _every_text(item)]


def test_the_page_says_everything_that_the_card_says():
    """A field that people never see is a field that nobody checks."""
    marked = {
        "identity.summary": "summary-text",
        "intended_use.contraindications": ["contra-text"],
        "regulatory.reference": "reference-text",
        "failure_modes": ["failure-text"],
        "licences.data": ["data-licence-text"],
        "diseases": [{"scheme": "SCT", "value": "1234567", "meaning": "disease-text"}],
        "inputs.0.spacing_mm": {"LR": {"least": 0.123}},
    }
    card = example_card(marked)
    text = " ".join(card_page(card, "sha256:00").text().split())
    assert text.startswith("Example segmenter 1.0.0")
    for said in ("Research use only. Not a medical device.", "sha256:00", "0.123", *_every_text(marked)):
        assert said in text


def test_the_pdf_is_the_same_every_time_and_can_be_opened(tmp_path: Path):
    page = card_page(example_card({"identity.publisher.name": "Ünïcödé 病院 <b>&"}), "sha256:00")
    pdf = page_pdf(page, "Ünïcödé 病院")
    assert pdf == page_pdf(page, "Ünïcödé 病院")
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"Not a medical device" in pdf
    if shutil.which("pdftotext") is not None:
        (tmp_path / "card.pdf").write_bytes(pdf)
        said = subprocess.run(
            ["pdftotext", str(tmp_path / "card.pdf"), "-"], capture_output=True, text=True, check=True
        )
        assert "Research use only" in said.stdout


@pytest.mark.parametrize("rows", [1, 300])
def test_long_cards_fill_several_sheets_each_with_the_notice(rows: int):
    page = card_page(example_card({"failure_modes": [f"mode {n} " + "long text " * 40 for n in range(rows)]}))
    pdf = page_pdf(page, "x")
    sheets = pdf.count(b"/Type /Page\n")
    assert pdf.count(b"Not a medical device") >= sheets >= 1
    assert (sheets > 10) == (rows > 10)
