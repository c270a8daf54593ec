"""nnU-Net's plans and weights become nets of ours that answer the same; what is not imported is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from residency.card import parse_card
from residency.cli import app
from residency.errors import CardError, InputError, TrainingError, UsageError
from residency.models.build import card_data
from residency.nets import build
from residency.nets.checkpoint import read_checkpoint
from residency.prepare import check_recipe
from residency.recipe import Recipe
from residency.train.importing.averaged import Averaged
from residency.train.importing.nnunet import find, write
from residency.train.importing.plans import read_plans
from residency.train.importing.state import fitting

ORACLE = json.loads((Path(__file__).parent / "nnunet_oracle.json").read_text())
"""Made by nnU-Net's own nets: tools/make_nnunet_oracle.py."""

KERNELS, STRIDES = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]


def wave(shape: list[int], phase: float) -> torch.Tensor:
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (0.3 * torch.cos(1.7 * count + 0.9 * phase) + 0.1).reshape(shape).float()


def state(name: str) -> dict[str, torch.Tensor]:
    return {key: wave(shape, number) for key, shape, number in ORACLE[name]["keys"]}


def plans(kind: str = "PlainConvUNet", **changed: Any) -> dict[str, Any]:
    plain = kind == "PlainConvUNet"
    kwargs = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": KERNELS,
        "strides": STRIDES,
        ("n_conv_per_stage" if plain else "n_blocks_per_stage"): [2, 3, 2] if plain else [1, 2, 2],
        "n_conv_per_stage_decoder": [2, 1] if plain else [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    full = {
        "patch_size": [4, 8, 12],
        "spacing": [3.0, 1.0, 0.8],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": kwargs,
        },
    }
    intensities = {"mean": 40.0, "std": 20.0, "percentile_00_5": -100.0, "percentile_99_5": 300.0}
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [1, 0, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": {**full, **changed}, "more": {"inherits_from": "3d_fullres"}},
        "foreground_intensity_properties_per_channel": {"0": intensities, "1": intensities},
    }


DATASET = {"channel_names": {"0": "CT", "1": "MR"}, "labels": {"background": 0, "b": 2, "a": 1}, "file_ending": ".nii"}


@pytest.mark.parametrize(("kind", "name"), [("PlainConvUNet", "planned-unet"), ("ResidualEncoderUNet", "resenc-unet")])
def test_the_rebuilt_net_answers_as_nnunets_own(kind: str, name: str) -> None:
    planned = read_plans(plans(kind), DATASET, "more")
    assert planned.net == name
    net = build(name, channels=2, classes=3, **planned.parameters).eval()
    net.load_state_dict(fitting(net, name, state(name), Path("checkpoint_final.pth")))
    with torch.inference_mode():
        scores = net.scores(wave([1, 2, 4, 8, 12], 0.5))
    np.testing.assert_allclose(scores.flatten()[::29].numpy(), ORACLE[name]["scores"], atol=1e-5)


@pytest.mark.parametrize("name", ["planned-unet", "resenc-unet"])
def test_weights_fit_wholly_or_not_at_all(name: str) -> None:
    planned = read_plans(plans("PlainConvUNet" if name == "planned-unet" else "ResidualEncoderUNet"), DATASET, "more")
    net = build(name, channels=2, classes=3, **planned.parameters)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    good, file = state(name), Path("x.pth")
    double = next(key for key in good if "all_modules" in key)
    lost = {key: value for key, value in good.items() if "transpconvs.0.weight" not in key}
    for bad, told in (
        (lost, "1 missing"),
        ({**good, "decoder.more": torch.zeros(1)}, "1 unexpected"),
        ({**good, double: good[double] + 1}, "one layer"),
        ({**good, "decoder.seg_layers.1.bias": torch.full((3,), float("nan"))}, "not finite"),
    ):
        with pytest.raises(TrainingError, match=told):
            fitting(net, name, bad, file)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_recipe_follows_the_plans() -> None:
    planned = read_plans(plans(), DATASET, "3d_fullres")
    ct, mr = planned.steps
    assert ct == (
        ("clip", {"values": (-100.0, 300.0)}),
        ("scale", {"shift": 40.0, "scale": 20.0}),
        (
            "resample",
            {
                "spacing_mm": (3.0, 1.0, 0.8),
                "tolerance": 0.0,
                "grid": "edges",
                "interpolation": "cubic",
                "thick": 3.0,
            },
        ),
    )
    assert mr[0] == ("normalise", {"method": "z-score", "over": "foreground", "above": 0.0, "outside": "zero"})
    assert (planned.window, planned.classes) == ((4, 8, 12), ("background", "a", "b"))
    assert planned.orientation is None
    assert planned.turned("SPL") == "PSL"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"normalization_schemes": ["RGBTo01Normalization"] * 2}, "RGBTo01Normalization"),
        ({"patch_size": [64, 64], "spacing": [1.0, 1.0]}, "not three-dimensional"),
        ({"previous_stage": "3d_lowres"}, "cascade"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resample_torch_fornnunet"),
        ({"resampling_fn_data_kwargs": {"order": 2}}, "'order': 2"),
        ({"inherits_from": "more"}, "more"),
        ({"patch_size": [64, "x", 64]}, "patch_size"),
        ({"patch_size": [100_000] * 3}, "a window of 100000 x 100000 x 100000 with 2 channels is too large"),
        ({"architecture": {"network_class_name": "a.Primus", "arch_kwargs": {}}}, "Primus"),
    ],
)
def test_what_is_not_imported_is_refused_by_name(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_plans(plans(**changed), DATASET, "3d_fullres")


def test_settings_of_the_net_that_ours_has_not_are_refused() -> None:
    odd = plans()
    odd["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["norm_op"] = "torch.nn.BatchNorm3d"
    with pytest.raises(InputError, match="norm_op"):
        read_plans(odd, DATASET, "3d_fullres")


def test_plans_that_claim_a_huge_net_take_no_memory(results: Path) -> None:
    """The net is compared with the weights before it is made: this one would take 25 TiB."""
    changed = json.loads((results / "plans.json").read_text())
    kwargs = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs |= {"features_per_stage": [4096] * 3, "kernel_sizes": [[31, 31, 31]] * 3}
    (results / "plans.json").write_text(json.dumps(changed))
    with pytest.raises(TrainingError, match="do not fit net 'planned-unet'"):
        find(results, ["0"])
    kwargs |= {"n_conv_per_stage": [4000] * 3}
    (results / "plans.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="1 to 64 are imported"):
        find(results, ["0"])


def test_a_patch_that_the_net_cannot_take_is_refused(results: Path) -> None:
    changed = json.loads((results / "plans.json").read_text())
    changed["configurations"]["3d_fullres"]["patch_size"] = [4, 8, 13]
    (results / "plans.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"multiples of 2 x 4 x 4, and 'patch_size' is 4 x 8 x 13"):
        find(results, ["0"])


def test_names_of_strangers_are_one_line(results: Path) -> None:
    planned = read_plans(
        plans() | {"dataset_name": "a\x1b[2J\nb"}, DATASET | {"channel_names": {"0": "C\x07T", "1": "MR"}}, "3d_fullres"
    )
    assert (planned.dataset, planned.channels) == ("a [2J b", ("C T", "MR"))
    with pytest.raises(InputError, match="names of their own"):
        read_plans(plans(), DATASET | {"labels": {"background": 0, "a\n": 1, "a": 2}}, "3d_fullres")


def test_folds_and_mirror_images_are_averaged_as_logits() -> None:
    planned = read_plans(plans(), DATASET, "3d_fullres")
    folds = [build("planned-unet", channels=2, classes=3, **planned.parameters).eval() for _ in range(2)]
    image = wave([1, 2, 4, 8, 12], 0.2)
    with torch.inference_mode():
        each = [f.scores(image) for f in folds] + [f.scores(image.flip(4)).flip(4) for f in folds]
        torch.testing.assert_close(Averaged(folds, (2,))(image), sum(each) / 4)


def test_a_checkpoint_is_read_with_its_numpy_figures_and_nothing_else(tmp_path: Path) -> None:
    held = {"network_weights": state("planned-unet"), "_best_ema": np.float64(0.5), "l": [np.float32(1.5)], "m": (0, 1)}
    torch.save(held, tmp_path / "good.pth")
    found = read_checkpoint(tmp_path / "good.pth")
    assert (found["_best_ema"], found["l"], found["m"]) == (0.5, [1.5], (0, 1))
    for name, bad in (("array", np.zeros(3)), ("path", Path("x")), ("code", print), ("text", np.array("x")[()])):
        torch.save({"network_weights": {}, "bad": bad}, tmp_path / name)
        with pytest.raises(TrainingError, match=r"more than tensors|kind"):
            read_checkpoint(tmp_path / name)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder as nnU-Net leaves it, of one channel, two folds."""
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    one = plans(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[False])
    dataset = {"channel_names": {"0": "MR"}, "labels": DATASET["labels"]}
    planned = read_plans(one, dataset, "3d_fullres")
    first = "encoder.stages.0.0.convs.0.conv.weight"
    alike = {first, first.replace(".conv.w", ".all_modules.0.w")}
    alike |= {f"decoder.{key}" for key in alike}
    weights = {key: value[:, :1].clone() if key in alike else value for key, value in state("planned-unet").items()}
    assert planned.net == "planned-unet"
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True)
        held = {
            "network_weights": weights,
            "init_args": {"configuration": "3d_fullres", "fold": fold, "device": torch.device("cuda")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
            "_best_ema": np.float64(0.9),
        }
        torch.save(held, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(one))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def test_a_dry_run_shows_what_was_found_and_writes_nothing(results: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["import", "nnunet", str(results), "--fold", "1", "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.output)
    assert (told["net"], told["window"], told["folds_there"]) == ("planned-unet", [4, 8, 12], ["0", "1"])
    assert [fold["name"] for fold in told["folds"]] == ["1"]
    assert told["written"] is None
    assert [one.name for one in tmp_path.iterdir()] == [results.name]


def test_what_must_be_chosen_is_asked_for(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0, 1"):
        find(results)
    with pytest.raises(UsageError, match="orientation"):
        write(find(results, ["0"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_package_folder_is_proven_and_lacks_only_what_a_person_must_say(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parities = write(find(results, ["0"]), out, letters="SPL").parities
    assert {parity.engine for parity in parities} == {"ONNX Runtime", "OpenVINO"}
    assert all(parity.holds for parity in parities)
    data = card_data(out, (out / "graph.onnx").read_bytes())
    assert data["parameters"] > 1000
    with pytest.raises(CardError, match="identity"):
        parse_card(data)
    (channel,) = data["inputs"]
    made = Recipe.model_validate(channel["recipe"])
    check_recipe(made)
    assert [step.name for step in made.steps] == ["orient", "crop", "normalise", "resample"]
    assert made.steps[0].parameters["letters"] == "PSL"  # transposed as the plans say
    assert "modalities" not in channel


@pytest.mark.slow
def test_folds_and_mirror_images_stand_in_the_card_with_what_they_cost(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["import", "nnunet", str(results), "--folds", "0,1", "--mirror", "--orientation", "SPL", "--out", str(out)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "Each window costs 16 passes" in shown.output
    averages = card_data(out, (out / "graph.onnx").read_bytes())["extensions"]["nnunet"]["averages"]
    assert averages == {"folds": ["0", "1"], "mirrored_axes": [0, 1, 2], "passes_a_window": 16}
