"""MONAI's bundles become packages that answer as MONAI's own pipeline does; nothing in them is ever run."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks import nets
from monai.transforms import Invertd
from typer.testing import CliRunner

from residency.card import parse_card
from residency.cli import app
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import CardError, GraphError, UsageError
from residency.files.nifti import read_nifti
from residency.infer import infer
from residency.prepare import prepare
from residency.testing.bundles import GIVEN, NETWORK, image, inference, metadata, written
from residency.train.importing.draft import completed, missing
from residency.train.importing.monai import Imported, read_bundle, write_bundle


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """A network of MONAI that has learnt to find the ball, so that its labels are no noise."""
    torch.manual_seed(1)
    net = nets.UNet(**{key: value for key, value in NETWORK.items() if key != "_target_"})
    optimiser = torch.optim.Adam(net.parameters(), 0.03)
    place = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"), -1)
    for _ in range(40):
        target = (torch.linalg.norm(place - (12 + 6 * torch.rand(3) - 3), dim=-1) < 7).long()[None]
        seen = (target[:, None] * 80 + 67 + 25 * torch.randn(1, 1, 24, 24, 24)) / 221
        loss = torch.nn.functional.cross_entropy(net(seen.clamp(0, 1)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def bundle(trained: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = written(tmp_path_factory.mktemp("bundles") / "ball_ct")
    torch.save({"model": trained.state_dict()}, folder / "models/model.pt")
    return folder


@pytest.fixture(scope="module")
def found(bundle: Path) -> Imported:
    return read_bundle(bundle, given=GIVEN)


def by_monai(config: dict[str, Any], net: Callable[[Any], Any], file: Path) -> np.ndarray:
    """MONAI's own pipeline, from its own configuration: labels as the file lies, (x, y, z)."""
    parser = ConfigParser({key: config[key] for key in ("spacing", "preprocessing", "inferer") if key in config})
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # MONAI's own, of readers that are not installed and of its future
        before = parser.get_parsed_content("preprocessing")
        made = before({"image": str(file)})
        made["pred"] = parser.get_parsed_content("inferer")(made["image"][None], net)[0]
        for one in config["postprocessing"]["transforms"]:
            if one["_target_"] == "Invertd":
                arguments = {key: value for key, value in one.items() if key != "_target_"}
                made = Invertd(**arguments | {"transform": before})(made)
            elif one["_target_"] != "SaveImaged":
                made = ConfigParser({"x": one}).get_parsed_content("x")(made)
    return np.asarray(made["pred"][0])


def by_us(found: Imported, file: Path) -> np.ndarray:
    card = parse_card({**found.card, "parameters": found.card["parameters"]})
    network = OpenVino(threads=2).load(found.graph, precision=Precision.F32)
    volume = read_nifti(file.read_bytes())
    prepared = {one.name: prepare(volume, one.recipe) for one in card.inputs}
    return infer(prepared, network, card)[card.outputs[0].name].transpose(2, 1, 0)


def test_the_package_answers_as_monais_own_pipeline(
    bundle: Path, found: Imported, trained: torch.nn.Module, tmp_path: Path
) -> None:
    for seed in (1, 2, 3):
        file = image(tmp_path, seed)
        theirs, ours = by_monai(inference(), trained, file), by_us(found, file)
        assert 1000 < theirs.sum() < 0.5 * theirs.size  # else nothing was found, and all is equal
        assert (theirs == ours).mean() >= 0.999
    assert {parity.engine for parity in found.parities} == {"ONNX Runtime", "OpenVINO"}


def test_what_the_bundle_tells_stands_in_the_card(found: Imported) -> None:
    card = found.card
    assert card["identity"] | GIVEN["identity"] == card["identity"]
    assert (card["identity"]["name"], card["identity"]["version"]) == ("Ball Segmentation", "0.2.0")
    assert card["inputs"][0]["modalities"] == ["CT"]
    assert card["inputs"][0]["unit"] == "HU"
    assert [step["name"] for step in card["inputs"][0]["recipe"]["steps"]] == ["orient", "resample", "clip", "scale"]
    assert card["outputs"][0]["decision"] == {"activation": "softmax", "interpolated": "activated", "rule": "argmax"}
    assert card["tiling"] == {"window": [24, 24, 24], "overlap": 0.5, "blend": "even"}
    assert card["extensions"]["monai"]["eval_metrics"] == {"mean_dice": "0.96"}
    assert card["evaluation"] == []  # a claim is no figure of ours
    assert found.lacking == ()


def test_the_command_writes_a_folder_that_names_what_is_missing(bundle: Path, found: Imported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    draft = completed(found.card, {})
    for field in ("regulatory", "golden"):
        del draft[field]
    write_bundle(replace(found, card=draft, lacking=missing(draft)), out)
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert card["tiling"]["window"] == [24, 24, 24]
    lines = [line for line in (out / "card.yaml").read_text().splitlines() if "FILL IN" in line]
    assert [line.split()[3] for line in lines] == ["regulatory:", "golden:"]
    assert (out / "licence.txt").read_text().strip().startswith("Apache License")
    told = json.loads((out / "training.json").read_text())
    assert told["graph_sha256"] == hashlib.sha256((out / "graph.onnx").read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="not empty"):
        write_bundle(found, out)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"file cannot be written to: .* give a new folder with --out"):
        write_bundle(found, tmp_path / "file")


def test_a_graph_of_the_bundle_is_taken_as_it_is_and_out_of_a_zip(found: Imported, tmp_path: Path) -> None:
    folder = written(tmp_path / "ball_ct")
    (folder / "models/model.onnx").write_bytes(found.graph)
    packed = tmp_path / "ball_ct.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                opened.write(file, f"ball_ct/{file.relative_to(folder)}")
    (tmp_path / "said.yaml").write_text(yaml.safe_dump(GIVEN))
    shown = CliRunner().invoke(
        app,
        ["import", "monai", str(packed), "--card", str(tmp_path / "said.yaml"), "--out", str(tmp_path / "o"), "--json"],
    )
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.output)
    assert told["to_fill_in"] == []
    assert told["steps"] == ["orient", "resample", "clip", "scale"]
    assert (tmp_path / "o/graph.onnx").read_bytes() == found.graph


def test_a_graph_that_is_none_or_of_other_channels_is_refused(found: Imported, tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    (folder / "models/model.onnx").write_bytes(b"\x80\x04code")
    with pytest.raises(GraphError, match="pickle"):
        read_bundle(folder)
    meta = metadata()
    meta["network_data_format"]["outputs"]["pred"]["num_channels"] = 3
    written(folder, meta)
    (folder / "models/model.onnx").write_bytes(found.graph)
    with pytest.raises(GraphError, match="where 3 are described"):
        read_bundle(folder)


def test_a_graph_that_does_not_run_on_the_window_is_refused_as_a_graph(found: Imported, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(found.graph)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 8
    folder = written(tmp_path / "b")
    (folder / "models/model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        GraphError, match=r"^not every engine runs the graph on 1x1x\S+: .*invalid dimensions"
    ) as raised:
        read_bundle(folder)
    assert "\n" not in str(raised.value)


def test_given_fields_win_and_wrong_ones_are_named(found: Imported) -> None:
    made = completed(found.card, {"identity": {"version": "9.9.9"}, "inputs": [{"weightings": ["T1"]}]})
    assert made["identity"]["version"] == "9.9.9"
    assert made["inputs"][0]["recipe"] == found.card["inputs"][0]["recipe"]
    with pytest.raises(CardError, match="weightings"):
        missing(completed(made, {"inputs": [{"weightings": ["T9"]}]}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "described",
    [
        {"_target_": "BasicUNet", "features": [4, 4, 8, 8, 16, 4]},
        {"_target_": "SegResNet", "init_filters": 8, "blocks_down": [1, 2, 2], "blocks_up": [1, 1]},
        {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 8],
            "deep_supervision": True,
            "deep_supr_num": 1,
        },
        {"_target_": "AttentionUnet", "spatial_dims": 3, "channels": [4, 8, 8], "strides": [2, 2]},
        {"_target_": "resnet18", "n_input_channels": 1, "num_classes": 2},
        {"_target_": "DenseNet121", "spatial_dims": 3, "init_features": 8, "growth_rate": 4},
    ],
    ids=lambda one: str(one["_target_"]),
)
def test_other_networks_of_monai_are_built_and_proven(described: dict[str, Any], tmp_path: Path) -> None:
    classifies = described["_target_"] in ("resnet18", "DenseNet121")
    arguments = {key: value for key, value in described.items() if key != "_target_"}
    if described["_target_"] != "resnet18":
        arguments |= {"in_channels": 1, "out_channels": 2}
    torch.manual_seed(3)
    net = getattr(nets, described["_target_"])(**arguments)
    meta = metadata()
    if classifies:
        meta["network_data_format"]["outputs"]["pred"] |= {"type": "probabilities", "format": "classes"}
    window = {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 64], "mode": "gaussian"}
    folder = written(
        tmp_path / "b", meta, inference(network_def={"_target_": described["_target_"], **arguments}, inferer=window)
    )
    torch.save(net.state_dict(), folder / "models/model.pt")
    made = read_bundle(folder)
    assert {parity.engine for parity in made.parities} == {"ONNX Runtime", "OpenVINO"}
    assert all(parity.holds for parity in made.parities)
    assert made.card["task"] == ("classification" if classifies else "segmentation")
