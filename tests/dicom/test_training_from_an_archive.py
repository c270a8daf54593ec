"""A training file that takes its cases from an archive: images, and Segmentations that refer to them, by person."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml

from residency.archive import Instance
from residency.archives.folder import FolderArchive
from residency.cli.train import settled
from residency.datasets import persons
from residency.dicom.result import ResultIdentity
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.errors import ConfigError, UsageError
from residency.findings import Findings
from residency.testing.phantoms import mr_series
from residency.train.config import read_config
from residency.train.run import export_run, run_training
from residency.train.sources import divided, division, gathered
from residency.volume import Volume, regular_grid

GRID = regular_grid((12, 12, 12), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def archive(
    tmp_path_factory: pytest.TempPathFactory,
    findings_on: Callable[..., Findings],
    identity_of: Callable[[SourceSeries], ResultIdentity],
) -> Path:
    """Bright balls in noise: six series of four people with a Segmentation each, and one series without."""
    folder = tmp_path_factory.mktemp("archive") / "hospital"
    made = FolderArchive(folder)
    for number, person in enumerate("AABBCDE"):
        random = np.random.default_rng(number)
        mask = np.linalg.norm(np.indices(GRID.shape).T - random.uniform(5, 7, 3), axis=-1) < 3.5
        values = np.where(mask, 600, 100) + random.integers(0, 90, GRID.shape)
        files = mr_series(
            Volume(values.astype(np.float32), GRID), study=f"study {number}", PatientID=f"MARKED-{person}"
        )
        if person != "E":
            source = open_series(files)
            outline = pydicom.dcmread(
                io.BytesIO(segmentation(findings_on(source, mask), source, identity_of(source)).data)
            )
            del outline.ReferencedInstanceSequence  # which says that a network of ours made it
            stream = io.BytesIO()
            outline.save_as(stream)
            files.append(stream.getvalue())
        made.store(
            Instance(str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID), data)
            for data in files
        )
    made.close()
    return folder


@pytest.fixture
def values(archive: Path) -> dict[str, Any]:
    return {
        "name": "from-archive",
        "seed": 3,
        "threads": 1,
        "data": {
            "kind": "archive",
            "archive": str(archive),
            "query": {"modality": "MR", "segments": {"ball": ["SCT:5366008"]}},
            "key_file": "names.key",
            "name": "Balls of the hospital",
            "licence": "CC0-1.0",
            "source": "made by the tests",
            "labels": "exact",
            "classes": ["background", "ball"],
            "validation_share": 0.3,
        },
        "recipe": {"steps": [{"name": "orient", "parameters": {"letters": "SPL"}}, {"name": "normalise"}]},
        "net": {"name": "unet", "parameters": {"features": [4, 8]}},
        "patch": [8, 8, 8],
        "schedule": {"steps": 12, "batch": 2, "rate": 0.02, "validate_every": 4, "average": 0.5},
    }


def _written(values: dict[str, Any], folder: Path) -> Path:
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def test_a_training_takes_its_cases_from_an_archive_by_person(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "names.key").write_bytes(b"who is held out hangs on this")
    file = _written(values, tmp_path)
    config, _ = settled(file, None, None)
    made = division(config)
    assert len(made.learning) + len(made.judging) == 6
    assert not set(persons(made.learning)) & set(persons(made.judging))
    assert len(set(persons([*made.learning, *made.judging]))) == 4
    assert "1 left out: series without a Segmentation that has the segments" in made.notes
    outcome = run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    assert outcome.best > 0.5
    again, _ = settled(file, None, None)  # as another command of another day
    assert [[case.name for case in side] for side in divided(again)] == [
        [case.name for case in side] for side in (made.learning, made.judging)
    ]
    report = export_run(again, tmp_path / "run", tmp_path).report.read_text()
    assert "of the archive" in report
    assert "MARKED" not in report + (tmp_path / "run" / "config.json").read_text()


def test_a_key_is_made_once_and_kept_from_others(values: dict[str, Any], tmp_path: Path) -> None:
    config, _ = settled(_written(values, tmp_path), None, None)
    names = [case.name for case in gathered(config).cases]
    key = tmp_path / "names.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stat().st_size == 32
    assert [case.name for case in gathered(config).cases] == names
    key.unlink()
    assert not set(names) & {case.name for case in gathered(config).cases}


def test_what_an_archive_is_not_asked_so_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    def read(**changes: Any) -> None:
        read_config(_written(values | {"data": values["data"] | changes}, tmp_path))

    with pytest.raises(ConfigError, match="names segments for shell; the classes besides the background are ball"):
        read(query={"modality": "MR", "segments": {"shell": [1]}})
    with pytest.raises(ConfigError, match="'image' is for data of kind 'table', not 'archive'"):
        read(image="{name}.png")
    with pytest.raises(ConfigError, match="need 'query' and 'key_file'"):
        read(query=None)
    with pytest.raises(ConfigError, match="'archive' is for data of kind 'archive', not 'table'"):
        read(kind="table", folder=".", query=None, key_file=None)
    with pytest.raises(UsageError, match="takes them from an archive"):
        settled(_written(values, tmp_path), tmp_path, None)
    with pytest.raises(ConfigError, match="no archive is open"):
        divided(read_config(_written(values, tmp_path)))


def test_the_place_of_an_archive_and_of_the_key_change_no_digest_but_the_query_does(
    values: dict[str, Any], tmp_path: Path
) -> None:
    def digest(**changes: Any) -> str:
        return read_config(_written(values | {"data": values["data"] | changes}, tmp_path)).learning_digest()

    plain = digest()
    assert plain == digest(archive="elsewhere", key_file="other.key")
    assert plain != digest(query=values["data"]["query"] | {"description": "T1"})
