"""The figures on the card of the pneumonia demonstration are those of its package on the official test split."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.models import read_folder
from residency.pipeline.compute import compute
from residency.volume import Grid, Space, Volume


@pytest.fixture
def bench() -> Any:
    return importlib.import_module("pneumonia")


def test_the_card_says_what_the_package_does_on_the_test_split(bench: Any, repository: Path, shared_data: Path) -> None:
    package = read_folder(repository / "models" / "pneumonia")
    with np.load(shared_data / "medmnist3d" / "pneumoniamnist.npz") as held:
        images, ill = held["test_images"].astype(np.float32), held["test_labels"].reshape(-1) == 1
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    grid = Grid((1, 28, 28), np.eye(4), space=Space.PIXELS)
    said = np.array(
        [compute(package.card, network, {"radiograph": Volume(one[None], grid)})["finding"][1] for one in images],
        dtype=np.float64,
    )
    told = {one.metric: one for one in package.card.evaluation}
    assert set(told) == set(bench.FIGURES)
    for title, figure in bench.FIGURES.items():
        assert told[title].value == pytest.approx(figure(said, ill), abs=5e-3), title
        assert told[title].cases == 624
        assert told[title].low <= told[title].value <= told[title].high
    assert told["AUC"].value > 0.9


def test_the_claim_is_of_the_difference_on_the_same_pictures(bench: Any) -> None:
    random = np.random.default_rng(0)
    ill = random.random(300) < 0.6
    good, poor = (ill + random.normal(0, spread, 300) for spread in (0.5, 1.5))
    persons = [str(n) for n in range(300)]
    better = bench._claim(np.stack([good, poor, poor], 1), ill, persons, judged=True)
    worse = bench._claim(np.stack([poor, good, good], 1), ill, persons, judged=True)
    assert (better.holds, worse.holds) == (True, False)
    alone = bench._claim(good[:, None], ill, persons, judged=False)
    assert (alone.value, alone.evaluated) == ("not measured", False)


def test_rivals_are_trained_by_the_very_file_of_the_package(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from residency.train import run
    from residency.train.config import read_config

    seen: dict[str, Any] = {}

    def watched(config: Any, folder: Path, *_: Any) -> None:
        seen[folder.name] = config.model_dump(mode="json")
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_training", watched)
    for name in bench.NETS:
        with pytest.raises(KeyboardInterrupt):
            bench.train_one(name, bench.SEEDS[1], Path("pictures"), Path("work"), False)
    own = json.loads(json.dumps(read_config(bench.MODEL / "train.yaml").model_dump(mode="json")))
    assert len(seen) == 2
    for config in seen.values():
        assert config.keys() == own.keys()
        changed = {key for key in own if config[key] != own[key]}
        assert {"seed", "data"} <= changed <= {"seed", "data", "net"}
    assert {config["net"]["parameters"].get("width", 64) for config in seen.values()} == {12, 64}
