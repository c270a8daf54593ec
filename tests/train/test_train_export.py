"""From a run to one ONNX file: nothing outside it, nothing of this machine in it, and two engines that agree."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from residency.card import InputStatistics, Training
from residency.errors import TrainingError
from residency.nets import build
from residency.train.config import TrainingConfig, read_config
from residency.train.export import Parity, export_graph, prove_parity
from residency.train.judge import scores
from residency.train.loop import load, workers
from residency.train.run import Exported, divided, export_run, run_training

Made = tuple[TrainingConfig, Path, Exported]


@pytest.fixture(scope="module")
def made(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A short run, exported."""
    folder = tmp_path_factory.mktemp("export")
    values = {
        "name": "balls",
        "seed": 3,
        "threads": 2,
        "data": {
            "folder": str(small_set),
            "name": "Balls in shells",
            "licence": "CC0-1.0",
            "source": "made by the tests",
            "labels": "exact",
            "classes": ["background", "ball", "shell"],
            "validation_share": 0.4,
        },
        "recipe": {"steps": [{"name": "normalise"}]},  # no `pad`: windows see to what sides the net takes
        "net": {"name": "unet", "parameters": {"features": [4, 8]}},
        "patch": [12, 12, 12],
        "schedule": {"steps": 6, "batch": 1, "rate": 0.01, "average": 0.5, "validate_every": 3},
        "export": {"symmetric_axis": 1, "unbiased_volumes": True},
    }
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    config = read_config(file)
    run_training(config, folder / "run", lambda _: None, lambda: False)
    return config, folder, export_run(config, folder / "run", folder / "out")


def test_the_graph_is_one_file_of_standard_operators_with_open_axes(made: Made) -> None:
    config, _, exported = made
    assert sorted(file.name for file in exported.graph.parent.iterdir()) == ["graph.onnx", "training.json"]
    model = onnx.load(exported.graph)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    (image,), (scores,) = model.graph.input, model.graph.output
    assert (image.name, scores.name) == ("image", "scores")
    for tensor, channels in ((image, 1), (scores, len(config.data.classes))):
        batch, channel, *space = tensor.type.tensor_type.shape.dim
        assert tensor.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert channel.dim_value == channels
        assert all(axis.dim_param and not axis.dim_value for axis in (batch, *space))


def test_the_graph_tells_nothing_of_the_machine_that_made_it(made: Made, repository: Path) -> None:
    content = made[2].graph.read_bytes()
    for told in (str(repository), "site-packages", "forward", ".py"):
        assert told.encode() not in content


def test_engines_were_compared_on_real_shapes_and_a_larger_one(made: Made) -> None:
    parities = made[2].parities
    assert {parity.engine for parity in parities} == {"ONNX Runtime", "OpenVINO"}
    assert len({parity.shape for parity in parities}) >= 2
    assert parities[-1].shape == (1, 1, 14, 14, 14)
    assert all(parity.holds for parity in parities)


def test_the_same_run_gives_the_same_bytes_and_tells_how_far_it_is(made: Made, tmp_path: Path) -> None:
    config, folder, exported = made
    told: list[tuple[str, int, int]] = []
    again = export_run(config, folder / "run", tmp_path, lambda *said: told.append(said))
    parts = list(dict.fromkeys(what for what, _, _ in told))
    assert len(parts) == 5
    for part in parts:
        counts = [(done, of) for what, done, of in told if what == part]
        assert counts == [(done, counts[0][1]) for done in range(counts[0][1] + 1)], part
    assert again.graph.read_bytes() == exported.graph.read_bytes()
    assert again.report.read_bytes() == exported.report.read_bytes()


def test_other_weights_do_not_pass_as_these(made: Made) -> None:
    config, _, exported = made
    other = build(config.net.name, channels=1, classes=3, **config.net.parameters).eval()
    with pytest.raises(TrainingError, match="does not answer as the net: ONNX Runtime"):
        prove_parity(other, exported.graph.read_bytes(), [np.ones((1, 1, 8, 8, 8), dtype=np.float32)])


@pytest.mark.parametrize(
    ("difference", "agreement", "holds"), [(1e-4, 1.0, True), (6e-3, 1.0, False), (1e-4, 0.999, False)]
)
def test_parity_needs_scores_and_classes(difference: float, agreement: float, holds: bool) -> None:
    assert Parity("engine", (1,), difference, 10.0, agreement).holds is holds


def test_what_is_shipped_is_symmetric_and_right_in_volume_on_average(made: Made) -> None:
    config, _, exported = made
    session = onnxruntime.InferenceSession(exported.graph.read_bytes(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).standard_normal((1, 1, 12, 12, 12)).astype(np.float32)
    plain, mirrored = (session.run(None, {"image": x})[0] for x in (image, image[:, :, :, ::-1].copy()))
    np.testing.assert_allclose(mirrored[:, :, :, ::-1], plain, atol=1e-4)

    exams = load(divided(config)[1], config)
    with workers(1) as pool:
        found = pool.map(lambda exam: scores(exported.answer.net, exam.image.numpy(), config.patch).argmax(0), exams)
        voxels = sum(int((labels > 0).sum()) for labels in found)
    wanted = sum(int((exam.labels > 0).sum()) for exam in exams)
    assert voxels == pytest.approx(wanted, rel=0.01)
    assert exported.answer.volumes is not None
    assert exported.answer.volumes.background_shift != 0.0


def test_what_is_told_fits_the_card(made: Made) -> None:
    config, _, exported = made
    told = json.loads(exported.report.read_text())
    training = Training.model_validate(told["training"])
    statistics = InputStatistics.model_validate(told["input_statistics"])
    assert (training.steps, training.seed) == (6, 3)
    assert training.config_digest == f"sha256:{config.digest()}"
    (source,) = training.datasets
    assert (source.persons, source.cases, source.licence) == (5, 10, "CC0-1.0")
    assert set(statistics.volumes_mm3) == {"ball", "shell", "all"}
    assert statistics.raw_percentiles["99.5"].most > 1000 > statistics.prepared_percentiles["99.5"].most
    assert told["tiling"] == {"window": [12, 12, 12], "overlap": 0.5}


def test_an_unfinished_run_is_exported_only_when_asked(made: Made, tmp_path: Path) -> None:
    config, folder, _ = made
    longer = copy.deepcopy(config.model_dump())
    longer["schedule"]["steps"] = 12
    unfinished = TrainingConfig.model_validate(longer)
    run = shutil.copytree(folder / "run", tmp_path / "run")
    for old in run.iterdir():
        old.unlink()
    steps: list[int] = []
    run_training(unfinished, run, lambda done: steps.append(done.step), lambda: steps[-1] == 4)
    with pytest.raises(TrainingError, match="has done 4 of 12 steps"):
        export_run(unfinished, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_run(unfinished, run, tmp_path / "out", unfinished=True).outcome.best_at == 3


def test_a_graph_keeps_every_layer_of_a_deeper_net() -> None:
    torch.manual_seed(0)
    net = build("unet", channels=2, classes=4, features=(3, 4, 5))
    graph = export_graph(net)
    image = np.random.default_rng(0).standard_normal((2, 2, 8, 16, 12)).astype(np.float32)
    assert all(parity.holds for parity in prove_parity(net, graph, [image]))
