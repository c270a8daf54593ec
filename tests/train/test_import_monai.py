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

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks import nets
from monai.transforms import Invertd
from safetensors.torch import save_file
from typer.testing import CliRunner

from residency.card import parse_card
from residency.cli import app
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import CardError, GraphError, InputError, ResidencyError, TrainingError, UsageError
from residency.files.nifti import read_nifti
from residency.infer import infer
from residency.prepare import prepare
from residency.recipe import recipe
from residency.train.importing.draft import completed, missing
from residency.train.importing.monai import Imported, read_bundle, write_bundle
from residency.train.importing.monai_config import Config, Described, Expression
from residency.train.importing.monai_steps import decision, preparation

SPACING = (1.0, 1.3, 0.8)
NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}


def metadata(**changed: Any) -> dict[str, Any]:
    tensor = {"type": "image", "spatial_shape": [24, 24, 24], "dtype": "float32", "is_patch_data": True}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json",
        "version": "0.2.0",
        "changelog": {"0.2.0": "unify naming"},
        "monai_version": "1.6.1",
        "pytorch_version": "2.13.0",
        "numpy_version": "2.4.6",
        "required_packages_version": {"nibabel": "5.4.2"},
        "name": "Ball Segmentation",
        "task": "segmentation of balls",
        "description": "Finds a ball in noise",
        "authors": "Somebody",
        "copyright": "Copyright (c) Somebody",
        "data_source": "made by a test",
        "intended_use": "This is an example, not to be used for diagnostic purposes",
        "eval_metrics": {"mean_dice": 0.96},
        "references": ["Nobody. Nowhere (2026)"],
        "network_data_format": {
            "inputs": {
                "image": tensor
                | {
                    "format": "hounsfield",
                    "modality": "CT",
                    "num_channels": 1,
                    "channel_def": {"0": "image"},
                    "value_range": [0, 1],
                }
            },
            "outputs": {
                "pred": tensor
                | {"format": "segmentation", "num_channels": 2, "channel_def": {"0": "background", "1": "ball"}}
            },
        },
    } | changed


def inference(**changed: Any) -> dict[str, Any]:
    """As bundles of the model zoo are written, with the expressions that they hold."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "spacing": [1.25, 1.25, 1.25],
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": -57,
                    "a_max": 164,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 24], "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "amp": True},
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
    } | changed


GIVEN = {
    "identity": {"sequence": 1, "publisher": {"id": "tests", "name": "Tests"}, "created": "2026-01-31T12:00:00Z"},
    "licences": {"code": "Apache-2.0", "weights": "CC0-1.0"},
    "inputs": [{"regions": [{"scheme": "SCT", "value": "12738006", "meaning": "Brain"}]}],
    "outputs": [
        {
            "classes": [
                {},
                {
                    "category": {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"},
                    "type": {"scheme": "SCT", "value": "12738006", "meaning": "Brain"},
                },
            ]
        }
    ],
    "intended_use": {
        "users": "Testers",
        "population": "Balls",
        "out_of_scope": ["People"],
        "oversight": "None is needed",
        "role": "demonstration",
    },
    "regulatory": {"status": "research only", "notice": "A test."},
    "training": {
        "datasets": [],
        "split": "none",
        "seed": 1,
        "augmentation": "none",
        "loss": "Dice",
        "optimiser": "Adam",
        "steps": 40,
        "hardware": "any",
        "duration_minutes": 0.1,
    },
    "golden": {"input": "golden-input.nii.gz", "expected": "golden-expected.nii.gz", "source": "made by a test"},
}


def written(folder: Path, meta: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> Path:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "configs/metadata.json").write_text(json.dumps(meta or metadata()))
    (folder / "configs/inference.json").write_text(json.dumps(config or inference()))
    (folder / "LICENSE").write_text("\n      Apache License\n      Version 2.0, January 2004\n")
    return folder


def image(folder: Path, seed: int, shape: tuple[int, int, int] = (44, 30, 41)) -> Path:
    """A ball in noise, in HU, stored as LAS: x runs to the left, so that axes must be turned."""
    random = np.random.default_rng(seed)
    place = np.stack(np.indices(shape), -1) * SPACING
    centre = np.array(shape) * SPACING / 2 + random.uniform(-5, 5, 3)
    inside = np.linalg.norm(place - centre, axis=-1) < random.uniform(8, 11)
    values = np.where(inside, 90.0, 10.0) + random.normal(0, 25, shape)
    file = folder / f"image{seed}.nii.gz"
    nibabel.Nifti1Image(values.astype(np.float32), np.diag([-SPACING[0], *SPACING[1:], 1])).to_filename(file)
    return file


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


@pytest.mark.parametrize("names", [["../../evil"], ["/etc/evil"], ["a\\..\\evil"], ["c:evil"]])
def test_a_zip_that_leads_out_of_itself_is_refused(names: list[str], tmp_path: Path) -> None:
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("b/configs/metadata.json", json.dumps(metadata()))
        for name in names:
            opened.writestr(name, "evil")
    with pytest.raises(InputError, match="leads out of it"):
        read_bundle(packed)
    assert sorted(tmp_path.iterdir()) == [packed]


def test_a_zip_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("configs/metadata.json", b" " * 60_000_000)
    with pytest.raises(InputError, match="would unpack to 60000000"):
        read_bundle(packed)


def test_links_and_second_roots_in_a_zip_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "x.zip"
    link = zipfile.ZipInfo("b/models/model.onnx")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("b/configs/metadata.json", json.dumps(metadata()))
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="leads out of it"):
        read_bundle(packed)
    with zipfile.ZipFile(packed, "w") as opened:
        for root in ("a", "b"):
            opened.writestr(f"{root}/configs/metadata.json", json.dumps(metadata()))
    with pytest.raises(InputError, match="several"):
        read_bundle(packed)


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    (folder / "configs/metadata.json").write_text('{"a": "' + "x" * (17 * 1024**2) + '"}')
    with pytest.raises(InputError, match="longer than"):
        read_bundle(folder)
    (folder / "configs/metadata.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="no JSON"):
        read_bundle(folder)


def test_torchscript_is_refused_in_words(trained: torch.nn.Module, tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    with zipfile.ZipFile(folder / "models/model.ts", "w") as opened:
        opened.writestr("model/code/__torch__.py", "def forward(self): pass")
        opened.writestr("model/constants.pkl", b"\x80\x02.")
    with pytest.raises(InputError, match=r"TorchScript .* not opened"):
        read_bundle(folder)
    with pytest.raises(InputError, match="pickled code"):
        read_bundle(folder / "models/model.ts")


def test_expressions_are_text(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    evil = f"$__import__('pathlib').Path({str(trap)!r}).touch()"
    config = Config(
        {
            "a": evil,
            "b": "@a",
            "c": "$(1.0, -2)",
            "d": "@e::f::1",
            "e": {"f": [1, "$'x'"]},
            "g": "$lambda x: x > 0",
            "h": "@h",
            "net": {"_target_": "UNet", "channels": evil},
            "bomb0": ["x"] * 10,
            **{f"bomb{n}": [f"@bomb{n - 1}"] * 10 for n in range(1, 12)},
            "x": {"_target_": "Y", "deep": "@bomb11"},
            "y": {"_target_": "Z", "a": "@c", "b": "@d", "c": "@g", "d": "@b"},
            "z": {"_target_": "Z", "a": "@h"},
        },
        "inference.json",
    )
    made = config.described(("y",))
    assert made is not None
    assert made.arguments == {"a": (1.0, -2), "b": "x", "c": "above 0", "d": Expression(evil.removeprefix("$"))}
    for name in ("x", "z"):
        with pytest.raises(InputError, match="without end"):
            config.described((name,))
    folder = written(tmp_path / "b", config=inference(network_def={**NETWORK, "channels": evil}))
    torch.save({"w": torch.zeros(1)}, folder / "models/model.pt")
    with pytest.raises(InputError, match="channels = the expression"):
        read_bundle(folder)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"_target_": "subprocess.Popen", "args": ["true"]}, "'Popen' is not imported"),
        ({"_target_": "monai.networks.nets.FlexibleUNet"}, "'FlexibleUNet' is not imported"),
        ({**NETWORK, "spatial_dims": 2}, "in 2 dimensions"),
        ({**NETWORK, "channels": [10**9, 8]}, "no plain value"),
        ({**NETWORK, "channels": [4000, 8000]}, "do not fit"),  # told before memory is asked for
        ({**NETWORK, "strides": [2, 2, 2]}, "cannot be built"),
        ({"_target_": "resnet18", "pretrained": True}, "fetch weights"),
    ],
)
def test_networks_that_are_not_on_the_list_or_do_not_fit_are_refused(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = written(tmp_path / "b", config=inference(network_def=changed))
    save_file({"w": torch.zeros(1)}, folder / "models/model.safetensors")
    with pytest.raises(ResidencyError, match=told):
        read_bundle(folder)


def test_weights_that_are_code_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    torch.save({"model": print}, folder / "models/model.pt")
    with pytest.raises(TrainingError, match="more than tensors"):
        read_bundle(folder)
    (folder / "models/model.pt").unlink()
    with pytest.raises(InputError, match="holds no network"):
        read_bundle(folder)


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


@pytest.mark.parametrize(
    ("one", "told"),
    [
        ({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}, "transform 'Lambdad' has no equal"),
        ({"_target_": "HistogramNormalized", "keys": "image"}, "transform 'HistogramNormalized' has no equal"),
        ({"_target_": "Spacingd", "keys": "image", "pixdim": [1, 2, 3], "mode": 3}, "mode = 3"),
        ({"_target_": "Spacingd", "keys": "image", "pixdim": [1, 2, 3]}, "before any Orientation"),
        ({"_target_": "ScaleIntensityd", "keys": "image", "factor": 2.0}, "factor = 2.0"),
        ({"_target_": "CropForegroundd", "keys": "image", "select_fn": "$lambda x: x > 9"}, "select_fn"),
        ({"_target_": "CropForegroundd", "keys": "image", "margin": 2}, "margin"),
        ({"_target_": "Resized", "keys": "image", "spatial_size": [9, 9, 9]}, "mode = area"),
        ({"_target_": "NormalizeIntensityd", "keys": "image", "strange": 1}, "strange = 1"),
    ],
)
def test_transforms_without_an_exact_equal_are_refused_by_name(one: dict[str, Any], told: str) -> None:
    arguments = {key: value for key, value in one.items() if key != "_target_"}
    held = Config({"p": {"_target_": "Compose", "transforms": [one]}}, "inference.json").transforms(("p",))
    assert len(held) == 1
    assert held[0].arguments.keys() == arguments.keys()
    with pytest.raises(InputError, match=told):
        preparation(held, 1, "inference.json")


EXACT = [
    [
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "i",
            "a_min": -50,
            "a_max": 150,
            "b_min": -1,
            "b_max": 1,
            "clip": True,
        }
    ],
    [{"_target_": "ScaleIntensityRanged", "keys": "i", "a_min": -50, "a_max": 150}],
    [
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": "i",
            "lower": 2,
            "upper": 97,
            "b_min": 0,
            "b_max": 2,
            "clip": True,
        }
    ],
    [{"_target_": "ScaleIntensityRangePercentilesd", "keys": "i", "lower": 2, "upper": 97, "b_min": 0, "b_max": 1}],
    [{"_target_": "ClipIntensityPercentilesd", "keys": "i", "lower": 2, "upper": 97}],
    [{"_target_": "ScaleIntensityd", "keys": "i", "minv": -1.0, "maxv": 1.0}],
    [{"_target_": "NormalizeIntensityd", "keys": "i"}],
    [{"_target_": "NormalizeIntensityd", "keys": "i", "subtrahend": 3.0, "divisor": 7.0}],
    [{"_target_": "ScaleIntensityd", "keys": "i"}, {"_target_": "NormalizeIntensityd", "keys": "i", "nonzero": True}],
    [{"_target_": "CropForegroundd", "keys": "i", "source_key": "i", "margin": 1, "allow_smaller": True}],
    [{"_target_": "CropForegroundd", "keys": "i", "source_key": "i", "select_fn": "$lambda x: x > 0"}],
    [{"_target_": "DivisiblePadd", "keys": "i", "k": 16}],
    [{"_target_": "DivisiblePadd", "keys": "i", "k": [8, 1, 16], "mode": "reflect"}],
    [{"_target_": "Spacingd", "keys": "i", "pixdim": [0.7, 2.1, 1.0]}],
    [{"_target_": "Spacingd", "keys": "i", "pixdim": [2.0]}, {"_target_": "NormalizeIntensityd", "keys": "i"}],
    [{"_target_": "Resized", "keys": "i", "spatial_size": [11, 40, 20], "mode": "trilinear"}],
]


@pytest.mark.parametrize("listed", EXACT, ids=lambda one: "-".join(str(each["_target_"]) for each in one))
def test_a_translated_transform_gives_the_values_of_monais_own(listed: list[dict[str, Any]], tmp_path: Path) -> None:
    first = [{"_target_": "LoadImaged", "keys": "i"}, {"_target_": "EnsureChannelFirstd", "keys": "i"}]
    first += [{"_target_": "Orientationd", "keys": "i", "axcodes": "PSR"}]
    held = {"p": {"_target_": "Compose", "transforms": [*first, *listed]}}
    file = image(tmp_path, 5, (23, 18, 27))
    made = preparation(Config(held, "inference.json").transforms(("p",)), 1, "inference.json")
    assert made.orientation == "PSR"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = ConfigParser(held).get_parsed_content("p")({"i": str(file)})["i"]
    ours = prepare(read_nifti(file.read_bytes()), recipe(("orient", {"letters": "PSR"}), *made.steps)).volume.array
    assert ours.shape == wanted.shape[1:]
    np.testing.assert_allclose(ours, np.asarray(wanted[0]), atol=2e-4 * max(1.0, float(np.abs(ours).max())))


def test_what_comes_after_the_network_is_the_cards_decision() -> None:
    def one(kind: str, **arguments: Any) -> Described:
        return Described(kind, arguments)

    made, notes = decision((one("Activationsd", sigmoid=True), one("AsDiscreted", threshold=0.4)), 3, "x")
    assert (made, notes) == ({"activation": "sigmoid", "rule": "threshold", "threshold": 0.4}, ())
    largest = one("KeepLargestConnectedComponentd", applied_labels=[1, 2])
    made, _ = decision((one("AsDiscreted", argmax=True), largest), 3, "x")
    assert made == {"rule": "argmax", "largest_only": True}
    for bad, told in (
        (one("KeepLargestConnectedComponentd", applied_labels=[2]), "applied_labels"),
        (one("Lambdad", func=Expression("lambda x: x")), "Lambdad"),
        (one("AsDiscreted", threshold=0.5, argmax=True), "together"),
    ):
        with pytest.raises(InputError, match=told):
            decision((bad,), 3, "x")


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
