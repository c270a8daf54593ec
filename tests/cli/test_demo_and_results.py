"""The demonstration, and what is made from the results that it stores: NIfTI, PNG, CSV, JSON and the HTML page."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from click.testing import Result
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from residency.archive import Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.cli import results as command
from residency.cli.demo_head import head_package
from residency.cli.results import Format, exported
from residency.cli.stored import read_result
from residency.dicom.capture import SECONDARY_CAPTURE_STORAGE
from residency.dicom.findings import read_report
from residency.dicom.model_object import RAW_DATA
from residency.dicom.report import report
from residency.dicom.segmentation import SEGMENTATION_STORAGE
from residency.dicom.uids import ResultIdentity
from residency.errors import ResidencyError, UsageError
from residency.files.nifti import read_nifti_labels
from residency.findings import Findings, ModelReference

SCRIPT = """
import sys
import typer
from residency.cli import demo
app = typer.Typer()
demo.register(app)
try:
    app()
finally:
    heavy = {"torch", "monai", "nilearn", "onnxruntime", "residency.train", "residency.nets"} & set(sys.modules)
    assert not heavy, heavy
"""


@dataclass(frozen=True)
class Demo:
    """A finished demonstration: its folder, what it printed, and the UIDs of its result."""

    folder: Path
    said: str
    seg: str
    sr: str

    @property
    def archive(self) -> FolderArchive:
        return FolderArchive(self.folder / "archive")


def run_demo(folder: Path, repository: Path, *more: str) -> Demo:
    """As a person runs it, with a home of its own in which nothing may appear."""
    home = folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RESIDENCY_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "--to", str(folder), *more],
        capture_output=True,
        text=True,
        env=kept | {"HOME": str(home), "COLUMNS": "120"},
        cwd=repository,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.iterdir()) == [], "the demonstration stays in its folder"
    uids = dict(re.findall(r"^  (SEG|SR) +([0-9.]+)$", done.stdout, re.MULTILINE))
    return Demo(folder, done.stdout, uids["SEG"], uids["SR"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Demo:
    """Of the crop alone, which is quick."""
    return run_demo(tmp_path_factory.mktemp("demo") / "left", repository, "--no-head")


@pytest.fixture
def run(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `residency export ...` or `report ...` on the archive of the demonstration."""
    monkeypatch.setenv("RESIDENCY_ARCHIVE", str(demo.folder / "archive"))
    app = typer.Typer()
    command.register(app)

    def run(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, [*map(str, words)])
        if isinstance(result.exception, ResidencyError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return run


def millilitres(said: str) -> float:
    found = re.search(r"([0-9.]+) mL in all", said)
    assert found
    return float(found[1])


# The demonstration


def test_the_demonstration_says_what_fits_and_why_the_others_do_not(demo: Demo) -> None:
    assert re.search(r"HippoCrop: result\n +passes: ", demo.said)
    assert "rule hippocrop" in demo.said
    assert re.search(r"skull-stripped: none\n +\S", demo.said)
    assert re.search(r"Localiser: none\n +\S", demo.said)
    assert "not approved at this site" in demo.said
    assert "not a medical device" in demo.said


def test_both_sides_of_the_template_have_plausible_volumes(demo: Demo, repository: Path, tmp_path: Path) -> None:
    """The template is its own mirror image, so its sides must nearly agree; an adult's hippocampus has 2 to 5 mL."""
    left = millilitres(demo.said)
    right = millilitres(run_demo(tmp_path / "right", repository, "--side", "right", "--no-head").said)
    assert 2.0 < left < 5.0
    assert 2.0 < right < 5.0
    assert abs(left - right) / left < 0.15


def test_the_other_side_in_the_same_folder_is_shown_as_what_was_asked(repository: Path, tmp_path: Path) -> None:
    right = run_demo(tmp_path / "both", repository, "--side", "right", "--no-head")
    page = (right.folder / "report.html").read_text()
    left = run_demo(tmp_path / "both", repository, "--side", "left", "--no-head")
    assert "Crop of the RIGHT side, as asked" in right.said
    assert "Crop of the LEFT side, as asked" in left.said
    assert "RIGHT" not in left.said
    assert "HippoCrop of the other side, from an earlier run: result, computed before" in left.said
    assert (left.seg, left.sr) != (right.seg, right.sr)
    assert left.said.count(" mL in all") == 1
    assert left.sr in (left.folder / "report.html").read_text() != page
    assert read_report((left.folder / "report.dcm").read_bytes()).sop_uid == left.sr


def test_the_dicom_objects_lie_beside_the_picture(demo: Demo) -> None:
    for uid, name in ((demo.seg, "segmentation.dcm"), (demo.sr, "report.dcm")):
        (entry,) = demo.archive.find(Level.INSTANCE, Query(sop_uid=uid))
        (stored,) = demo.archive.instances(entry.series_uid, [uid])
        assert (demo.folder / name).read_bytes() == stored.data
        assert str(demo.folder / name) in demo.said


def test_a_second_demonstration_computes_and_stores_nothing_new(demo: Demo, repository: Path) -> None:
    before = {e.sop_uid for e in demo.archive.find(Level.INSTANCE, Query())}
    again = run_demo(demo.folder, repository, "--no-head")
    assert "computed before" in again.said
    assert (again.seg, again.sr) == (demo.seg, demo.sr)
    assert {e.sop_uid for e in demo.archive.find(Level.INSTANCE, Query())} == before


@pytest.mark.parametrize("by_file", [False, True])
def test_weights_for_research_do_not_run_where_the_site_forbids_them(
    by_file: bool, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it says so: a site that says nothing has the demonstration as it is announced."""
    monkeypatch.chdir(repository)
    for name in ("RESIDENCY_CONFIG", "RESIDENCY_ALLOW_RESEARCH"):
        monkeypatch.delenv(name, raising=False)
    assert head_package(Console(file=io.StringIO())) == repository / "models" / "head"
    file = tmp_path / "site.toml"
    file.write_text("allow_research = false\n")
    monkeypatch.setenv(*(("RESIDENCY_CONFIG", str(file)) if by_file else ("RESIDENCY_ALLOW_RESEARCH", "false")))
    said = io.StringIO()
    assert head_package(Console(file=said, width=400)) is None
    assert f"allow_research is false (from {file if by_file else 'RESIDENCY_ALLOW_RESEARCH'})" in said.getvalue()
    assert len(said.getvalue().splitlines()) == 1


def test_outside_a_checkout_the_head_is_left_out_from_the_start(repository: Path, tmp_path: Path) -> None:
    installed = tmp_path / "lib" / "python" / "packages"
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "src" / "residency", installed / "residency", ignore=hidden)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESIDENCY_")}
    words = ["demo", "--to", str(tmp_path / "demo"), "--package", str(repository / "models" / "hippocampus")]
    done = subprocess.run(
        [sys.executable, "-m", "residency", *words],
        capture_output=True,
        text=True,
        env=kept | {"PYTHONPATH": str(installed), "HOME": str(tmp_path), "COLUMNS": "120"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("The whole head is left out: models/head is not here; start in the checkout")
    assert "HippoCrop: result" in done.stdout


@pytest.mark.slow
def test_it_ends_with_both_hippocampi_of_a_head_that_belongs_to_nobody(repository: Path, tmp_path: Path) -> None:
    """Volumes of both sides, what compares them, and whose head it is; the same again is not computed anew."""
    first = run_demo(tmp_path / "head", repository)
    assert "no skull, in a skull and scalp made by code" in first.said
    assert "no head of a person" in first.said
    assert "LicenseRef-SBIA-1.1, for research only: the demonstration allows it" in first.said
    assert "step before = Head 1.0.0" in first.said

    def number(structure: str, quantity: str) -> float:
        rows = [[cell.strip() for cell in line.split("│")] for line in first.said.splitlines() if "│" in line]
        (value,) = [row[4] for row in rows if row[1] == structure and row[3].startswith(quantity)]
        return float(value.split()[0])

    left, right = (number(f"Hippocampus, {side}", "Volume") for side in ("left", "right"))
    assert 2.0 < left < 6.0
    assert 2.0 < right < 6.0
    compared = number("Hippocampus, left and right", "Asymmetry index")
    assert compared == pytest.approx((left - right) / ((left + right) / 2), abs=0.005)
    share = 100 * (left + right) / number("Intracranial volume", "Volume")
    assert number("Hippocampus, left and right", "Share") == pytest.approx(share, abs=0.002)

    result = read_report((first.folder / "head" / "report.dcm").read_bytes())
    assert {group.algorithm.name for group in result.groups} == {"Head", "Hippocampus"}
    with Image.open(first.folder / "head" / "picture.png") as picture:
        assert picture.size[0] > 100
    again = run_demo(first.folder, repository)
    assert "T1 template in a made skull: result, computed before" in again.said
    assert result.sop_uid in again.said


def test_the_key_of_the_demonstration_is_its_owners_alone(demo: Demo) -> None:
    keys = [p for p in (demo.folder / "home").rglob("*") if p.suffix == ".key"]
    assert keys
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)


# Results


def test_the_label_map_holds_the_volumes_that_the_report_states(demo: Demo, run, tmp_path: Path) -> None:
    run("export", demo.sr, "--to", tmp_path, "--format", "nifti")
    run("export", demo.sr, "--to", tmp_path, "--format", "csv")
    labels, grid = read_nifti_labels((tmp_path / "segments.nii.gz").read_bytes())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "measurements.csv").read_text(), newline="")))
    volumes = {int(row["segment"]): float(row["value"]) for row in rows if row["unit"] == "mm3"}
    assert len(volumes) == 2
    for number, volume in volumes.items():
        assert np.count_nonzero(labels == number) * grid.voxel_mm3 == pytest.approx(volume, rel=1e-4)
    source = read_result(demo.sr, demo.archive).source
    assert source is not None
    assert grid.matches(source.grid, 1e-3)


def test_json_names_result_network_and_notice(demo: Demo, run, tmp_path: Path) -> None:
    run("export", demo.seg, "--to", tmp_path, "--format", "json")
    found = json.loads((tmp_path / "measurements.json").read_text())
    assert (found["segmentation"], found["report"]) == (demo.seg, demo.sr)
    assert found["digest"].startswith("sha256:")
    assert "Research use only" in found["notices"][0]
    assert {m["unit"] for m in found["measurements"]} >= {"mm3", "mm"}


def test_the_dicom_objects_come_out_as_they_are_stored(demo: Demo, run, tmp_path: Path) -> None:
    run("export", demo.seg, "--to", tmp_path, "--format", "dicom")
    files = {p.name: pydicom.dcmread(p) for p in tmp_path.iterdir()}
    pages = {row.sop_uid for row in demo.archive.find(Level.INSTANCE, Query(sop_class=SECONDARY_CAPTURE_STORAGE))}
    assert pages
    assert {str(found.SOPInstanceUID) for found in files.values()} == {demo.seg, demo.sr, *pages}
    assert all(re.fullmatch(r"(seg|sr|sc|sc-\d)-[0-9a-f]{16}\.dcm", name) for name in files)
    for uid in (demo.seg, demo.sr):
        (row,) = demo.archive.find(Level.INSTANCE, Query(sop_uid=uid))
        (stored,) = demo.archive.instances(row.series_uid)
        assert stored.data in [p.read_bytes() for p in tmp_path.iterdir()]


def test_export_needs_no_more_than_the_result(demo: Demo, run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not run("export", demo.sr).stderr.count("--images")
    assert (tmp_path / "exported" / "segments.nii.gz").is_file()


def test_the_picture_is_a_picture(demo: Demo, run, tmp_path: Path) -> None:
    run("export", demo.seg, "--to", tmp_path, "--format", "png")
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_every_name_of_a_result_gives_the_same_page(demo: Demo, run, tmp_path: Path) -> None:
    captures = [e.sop_uid for e in demo.archive.find(Level.INSTANCE, Query(sop_class=SECONDARY_CAPTURE_STORAGE))]
    objects = (demo.seg, demo.sr, captures[-1])
    series = {e.series_uid for uid in objects for e in demo.archive.find(Level.INSTANCE, Query(sop_uid=uid))}
    pages = set()
    for uid in (*objects, *series):
        run("report", uid, "--to", tmp_path / "page.html")
        pages.add((tmp_path / "page.html").read_text())
    assert len(pages) == 1
    (page,) = pages
    assert page == (demo.folder / "report.html").read_text()


def test_the_page_explains_and_shows_the_card_but_no_patient(demo: Demo) -> None:
    page = (demo.folder / "report.html").read_text()
    for wanted in ("Why this network", "hippocrop", "Card: Intended use", "Research use only", "mL", demo.seg, demo.sr):
        assert wanted in page
    for hidden in ("Template^MNI152", "MNI152-2009A"):
        assert hidden not in page


def test_a_result_is_shown_without_its_images_and_with_them_from_a_folder(
    demo: Demo, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`residency run FOLDER` keeps the images where they lie; only results are in the archive."""
    source = read_result(demo.sr, demo.archive).source
    assert source is not None
    (tmp_path / "images").mkdir()
    for n, one in enumerate(demo.archive.instances(source.labels.series_uid)):
        (tmp_path / "images" / f"{n}.dcm").write_bytes(one.data)
    alone = FolderArchive(tmp_path / "alone")
    for uid in (demo.seg, demo.sr):
        (row,) = demo.archive.find(Level.INSTANCE, Query(sop_uid=uid))
        alone.store(demo.archive.instances(row.series_uid))
    monkeypatch.setenv("RESIDENCY_ARCHIVE", str(tmp_path / "alone"))

    said = run("report", demo.seg, "--to", tmp_path / "without.html")
    assert "does not hold the series" in said.stderr
    assert "<figure" not in (tmp_path / "without.html").read_text()
    assert "--images" in run("export", demo.seg, "--to", tmp_path / "nii").stderr, "the label map has fewer slices"
    with pytest.raises(UsageError, match="--images"):
        run("export", demo.seg, "--to", tmp_path, "--format", "png")
    run("report", demo.seg, "--to", tmp_path / "with.html", "--images", tmp_path / "images")
    assert "<figure" in (tmp_path / "with.html").read_text()
    assert "no card is shown" in (tmp_path / "with.html").read_text(), "the network is in the other archive"


def test_images_that_are_not_all_there_are_not_shown(demo: Demo, tmp_path: Path) -> None:
    """An outline on the wrong slice is worse than none."""
    source = read_result(demo.sr, demo.archive).source
    assert source is not None
    partly = FolderArchive(tmp_path / "partly")
    partly.store(demo.archive.instances(source.labels.series_uid, source.sop_uids[1:]))
    result = read_result(demo.seg, demo.archive, partly)
    assert result.source is None
    assert "missing" in result.warnings[0]


def test_a_segmentation_without_report_is_measured(demo: Demo, tmp_path: Path) -> None:
    alone = FolderArchive(tmp_path / "alone")
    (row,) = demo.archive.find(Level.INSTANCE, Query(sop_uid=demo.seg))
    alone.store(demo.archive.instances(row.series_uid))
    stated = json.loads(exported(read_result(demo.seg, demo.archive), Format.JSON)["measurements.json"])
    measured = json.loads(exported(read_result(demo.seg, alone), Format.JSON)["measurements.json"])

    def volumes(found: dict) -> dict[int, float]:
        return {m["segment"]: m["value"] for m in found["measurements"] if m["unit"] == "mm3"}

    assert volumes(measured) == pytest.approx(volumes(stated), rel=1e-4)


def test_a_result_in_which_nothing_was_found_shows_the_images(demo: Demo, run, tmp_path: Path) -> None:
    """That nothing was found is a statement about images; a reader must be able to look at them."""
    source = read_result(demo.sr, demo.archive).source
    assert source is not None
    model = ModelReference(
        **dict.fromkeys(("family", "name", "version", "publisher", "engine", "notice", "approval", "threshold"), "x"),
        digest="sha256:" + "0" * 64,
        manifest_uid="2.25.1",
        manifest_sop_class=RAW_DATA,
        study_uid="2.25.2",
        series_uid="2.25.3",
        precision="f32",
    )
    identity = ResultIdentity(source.sop_uids, model.digest, model.precision, model.engine, model.approval)
    empty = report(Findings(source.grid, model), source, identity, None)
    demo.archive.store([Instance(empty.uid, empty.data)])
    run("report", empty.uid, "--to", tmp_path / "empty.html")
    page = (tmp_path / "empty.html").read_text()
    assert page.count("<figure") == source.grid.shape[0]
    assert source.labels.series_uid in page
    run("export", empty.uid, "--to", tmp_path, "--format", "png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size[0] > 100


def test_overlapping_segments_get_a_file_each(demo: Demo) -> None:
    result = read_result(demo.seg, demo.archive)
    assert result.segmentation is not None
    one, two = result.segmentation.segments
    mask = two.segment.mask | one.segment.mask
    wide = replace(two, segment=replace(two.segment, mask=mask))
    overlapping = replace(result, segmentation=replace(result.segmentation, segments=(one, wide)))
    files = exported(overlapping, Format.NIFTI)
    assert sorted(files) == ["segment-1.nii.gz", "segment-2.nii.gz"]
    labels, _ = read_nifti_labels(files["segment-2.nii.gz"])
    assert np.array_equal(labels.astype(bool), mask)


def test_what_is_no_result_is_refused(demo: Demo, run, tmp_path: Path) -> None:
    image = next(iter(demo.archive.find(Level.INSTANCE, Query(modality="MR"))))
    for uid in (image.sop_uid, image.series_uid, "1.2.3", "../../etc/passwd", ""):
        with pytest.raises(UsageError, match="holds no result"):
            run("report", uid, "--to", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_the_archive_holds_one_segmentation_a_run(demo: Demo) -> None:
    found = list(demo.archive.find(Level.INSTANCE, Query(sop_class=SEGMENTATION_STORAGE)))
    assert [e.sop_uid for e in found] == [demo.seg]


def test_what_cannot_be_written_is_one_line(demo: Demo, run, tmp_path: Path) -> None:
    file = tmp_path / "afile"
    file.write_text("mine")
    for to in (file, file / "x", Path("/proc/x")):
        with pytest.raises(UsageError, match="cannot be made a folder"):
            run("export", demo.seg, "--to", to, "--format", "csv")
    for to in (tmp_path, file / "x.html", tmp_path / "nodir" / "x.html"):
        with pytest.raises(UsageError, match="cannot be written"):
            run("report", demo.seg, "--to", to)
    assert not (tmp_path / "nodir").exists()
    assert file.read_text() == "mine"


def test_what_is_written_about_a_patient_is_its_owners_alone(demo: Demo, run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("of yesterday")
    page.chmod(0o644)
    run("report", demo.seg, "--to", page)
    run("export", demo.seg, "--to", tmp_path / "out", "--format", "dicom")
    written = [page, *(tmp_path / "out").iterdir()]
    assert len(written) > 2
    assert {file.stat().st_mode & 0o777 for file in written} == {0o600}
