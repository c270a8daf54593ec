"""`residency archive`: files go in, what is no DICOM is named, and what is there can be seen."""

import io
import json
import zipfile
from pathlib import Path

import pydicom
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.cli import archive as command
from residency.errors import ArchiveError, ResidencyError, UsageError
from residency.testing.archive import data_set, instance


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `residency archive ...` with the archive of this test; errors of ours are raised."""
    monkeypatch.setenv("RESIDENCY_ARCHIVE", str(tmp_path / "archive"))
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)

    def run(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, ["archive", *map(str, words)])
        if isinstance(result.exception, ResidencyError):
            raise result.exception
        return result

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for n in (1, 2):
        made = instance(data_set(f"1.2.1.1.{n}", StudyDescription="Head", SeriesDescription="T1 \x1b[31mred"))
        (folder / f"{n}.dcm").write_bytes(made.data)
    (folder / "notes.txt").write_text("hello")
    with zipfile.ZipFile(folder / "more.zip", "w") as packed:
        packed.writestr("../x.dcm", instance(data_set("1.2.2.1.1", study="1.2.2", series="1.2.2.1")).data)
    return folder


def test_import_stores_and_counts(run, files: Path, tmp_path: Path) -> None:
    result = run("import", files)
    assert result.exit_code == 0
    assert result.stdout.startswith("3 instances are in file://")
    assert "1 skipped, no DICOM file: " in result.stdout
    assert "notes.txt" in result.stdout
    held = {e.sop_uid for e in FolderArchive(tmp_path / "archive").find(Level.INSTANCE, Query())}
    assert held == {"1.2.1.1.1", "1.2.1.1.2", "1.2.2.1.1"}
    assert result.stdout.splitlines()[0].endswith("(3 new, 0 there before)")
    assert result.stderr == "", "no bar, and no empty line of one, where nobody looks"
    (files / "3.dcm").write_bytes(instance(data_set("1.2.1.1.3")).data)
    again = run("import", files)
    assert again.exit_code == 0, "storing twice is harmless"
    assert again.stdout.splitlines()[0].endswith("(1 new, 3 there before)")


def test_a_file_that_contradicts_the_archive_is_refused(run, files: Path, tmp_path: Path) -> None:
    run("import", files)
    (files / "3.dcm").write_bytes(instance(data_set("1.2.1.1.3")).data)
    (files / "1.dcm").write_bytes(instance(data_set("1.2.1.1.1", Rows=9)).data)
    result = run("import", files)
    assert result.exit_code == 13
    assert "1 refused, the archive holds other content" in result.stderr
    assert "1.dcm" in result.stderr
    rows = {e.sop_uid for e in FolderArchive(tmp_path / "archive").find(Level.INSTANCE, Query())}
    assert "1.2.1.1.3" in rows, "the others are stored"


def test_finding_nothing_is_no_success(run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "empty", tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match=r"no DICOM file was found in .*nothing was imported") as error:
            run("import", path)
        assert str(path) in str(error.value)
        assert error.value.exit_status == 2


def test_a_path_that_is_not_there_is_named(run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        run("import", tmp_path / "nowhere")
    assert not (tmp_path / "archive").exists()


def test_studies_and_series_are_listed(run, files: Path) -> None:
    run("import", files)
    studies = run("ls").stdout
    assert studies.splitlines()[0].split() == ["Study", "Patient", "Description", "Instances"]
    assert "1.2.1  " in studies
    assert "1.2.2  " in studies
    series = run("ls", "1.2.1").stdout
    assert "1.2.1.1  MR" in series
    assert "\x1b" not in series, "a description must not steer the terminal"


def test_lists_are_given_as_json(run, files: Path) -> None:
    run("import", files)
    (study,) = [e for e in json.loads(run("ls", "--json").stdout) if e["study_uid"] == "1.2.1"]
    assert study["instances"] == 2
    (series,) = json.loads(run("ls", "1.2.1", "--json").stdout)
    assert (series["series_uid"], series["modality"]) == ("1.2.1.1", "MR")


def test_an_unknown_study_is_an_error(run, files: Path) -> None:
    run("import", files)
    with pytest.raises(ArchiveError, match="residency archive ls"):
        run("ls", "1.2.99")


def test_looking_makes_no_archive(run, tmp_path: Path) -> None:
    for words in (("ls",), ("rebuild",)):
        with pytest.raises(UsageError, match="import"):
            run(*words)
    assert not (tmp_path / "archive").exists()


def test_the_index_is_made_anew(run, files: Path, tmp_path: Path) -> None:
    run("import", files)
    stray = tmp_path / "archive" / "objects" / "00"
    stray.mkdir(exist_ok=True)
    (stray / "stray").write_text("no DICOM")
    result = run("rebuild")
    assert result.stdout.startswith("3 instances in the index")
    assert "objects/00/stray" in result.stderr


def test_emptied_files_are_mended_on_request_and_the_new_uids_are_told(run, tmp_path: Path) -> None:
    folder = tmp_path / "emptied"
    folder.mkdir()
    for n in (1, 2):
        (folder / f"{n}.dcm").write_bytes(emptied_of_uids(instance(data_set(f"1.2.3.{n}")).data))
    with pytest.raises(UsageError, match=r"none of the files in .* could be imported"):
        run("import", folder)
    result = run("import", "--mend-uids", folder)
    assert result.exit_code == 0
    assert "2 files had no UIDs of their own: now series 2.25." in result.stdout
    assert "2 instances are in" in result.stdout
    assert "(0 new, 2 there before)" in run("import", "--mend-uids", folder).stdout


def test_every_file_that_is_not_taken_is_named_on_request(run, files: Path, tmp_path: Path) -> None:
    for n in range(9):
        (files / f"notes{n}.txt").write_text("hello")
    few = run("import", files).stdout
    assert "and 7 more (--verbose names them)" in few
    assert "notes8.txt" not in few
    assert "notes8.txt" in run("import", files, "--verbose").stdout
    told = json.loads(run("import", files, "--json").stdout)
    assert (told["taken"], told["present"], told["refused"]) == (3, 3, {})
    assert len(told["skipped"]["no DICOM file"]) == 10
    assert told["archive"] == (tmp_path / "archive").as_uri()


def test_an_archive_that_fails_is_told_with_what_was_dealt_with_before(run, files: Path) -> None:
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    words = ["archive", "import", str(files / "notes.txt"), str(files), "--archive", "http://127.0.0.1:9/dicom-web"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert isinstance(result.exception, ArchiveError)
    assert json.loads(result.stdout)["taken"] == 0


def emptied_of_uids(data: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, "")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset)
    return stream.getvalue()
