"""A package written as a MONAI bundle runs in MONAI's own pipeline, and comes back as the package that it was."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.properties import MetaProperties
from monai.transforms import Invertd
from typer.testing import CliRunner

from residency.card import Card, Input
from residency.cli import app
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import DigestError, UsageError
from residency.files.monai import to_monai
from residency.files.nifti import read_nifti
from residency.infer import infer
from residency.models import read_folder, write_files
from residency.package import ModelPackage
from residency.prepare import prepare
from residency.recipe import recipe
from residency.train.importing.monai import read_bundle, write_bundle

PACKAGE = Path(__file__).parents[2] / "models" / "hippocampus"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "hippocampus"
    made = CliRunner().invoke(app, ["models", "export", str(PACKAGE), str(folder), "--monai"])
    assert made.exit_code == 0, made.output
    assert "differs: MONAI's Spacing" in made.output
    return folder


def test_the_metadata_have_what_monai_asks_for(bundle: Path) -> None:
    held = json.loads((bundle / "configs/metadata.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ConfigParser({"_meta_": held})
        for name, one in MetaProperties.items():
            if one["required"]:
                assert parser.get(one["id"]) is not None, name
    for key in (
        "schema",
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "authors",
        "copyright",
    ):
        assert isinstance(held[key], str)
        assert held[key]
    (image,) = held["network_data_format"]["inputs"].values()
    assert (image["modality"], image["num_channels"], image["spatial_shape"]) == ("MR", 1, [36, 48, 36])


def test_nothing_in_the_configuration_is_an_expression(bundle: Path) -> None:
    def walk(value: object) -> None:
        assert not (isinstance(value, str) and value.startswith(("$", "%")))
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(one)

    walk(json.loads((bundle / "configs/inference.json").read_text()))


def test_monais_own_pipeline_gives_our_labels(bundle: Path) -> None:
    package = read_folder(PACKAGE)
    config = json.loads((bundle / "configs/inference.json").read_text())
    session = onnxruntime.InferenceSession(
        (bundle / "models/model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    file = PACKAGE / "golden-input.nii.gz"

    def net(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["scores"], {"image": np.asarray(image)})[0])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ConfigParser({key: config[key] for key in ("preprocessing", "inferer")})
        before = parser.get_parsed_content("preprocessing")
        made = before({"image": str(file)})
        made["pred"] = parser.get_parsed_content("inferer")(made["image"][None], net)[0]
        for one in config["postprocessing"]["transforms"]:
            if one["_target_"] == "Invertd":
                made = Invertd(**{k: v for k, v in one.items() if k != "_target_"} | {"transform": before})(made)
            else:
                made = ConfigParser({"x": one}).get_parsed_content("x")(made)
    theirs = np.asarray(made["pred"][0]).transpose(2, 1, 0)
    card = package.card
    prepared = {one.name: prepare(read_nifti(file.read_bytes()), one.recipe) for one in card.inputs}
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    ours = infer(prepared, network, card)[card.outputs[0].name]
    assert (theirs > 0).sum() > 1000
    assert (theirs == ours).mean() >= 0.999


def test_a_bundle_of_ours_comes_back_whole(bundle: Path, tmp_path: Path) -> None:
    package = read_folder(PACKAGE)
    found = read_bundle(bundle)
    assert Card.model_validate(found.card) == package.card
    write_bundle(found, tmp_path / "back")
    assert read_folder(tmp_path / "back").digest == package.digest
    with pytest.raises(UsageError, match="without --card"):
        read_bundle(bundle, given={"task": "segmentation"})


def test_a_part_of_it_that_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    files, _ = to_monai(read_folder(PACKAGE))
    for name in ("models/model.onnx", "residency/golden-input.nii.gz"):
        changed = bytearray(files[name])
        changed[-1] ^= 1
        write_files(tmp_path / "bad", {**files, name: bytes(changed)})
        with pytest.raises(DigestError):
            read_bundle(tmp_path / "bad")


def test_the_form_of_monai_alone_tells_the_same_contract(bundle: Path, tmp_path: Path) -> None:
    """Without the package beside it, as anybody else's bundle."""
    files, _ = to_monai(read_folder(PACKAGE))
    write_files(tmp_path / "b", {name: data for name, data in files.items() if not name.startswith("residency/")})
    card, own = read_bundle(tmp_path / "b").card, read_folder(PACKAGE).card
    assert card["identity"]["name"] == own.identity.name
    assert card["identity"]["version"] == own.identity.version
    assert card["identity"]["summary"] == own.identity.summary
    assert card["inputs"][0]["modalities"] == ["MR"]
    assert [one["name"] for one in card["outputs"][0]["classes"]] == [one.name for one in own.outputs[0].classes]
    assert card["tiling"] == json.loads(own.tiling.model_dump_json())
    assert card["outputs"][0]["decision"]["rule"] == "argmax"
    steps = [step["name"] for step in card["inputs"][0]["recipe"]["steps"]]
    assert steps == [step.name for step in own.inputs[0].recipe.steps]


def test_a_step_without_an_equal_leaves_the_preparation_out_and_says_so() -> None:
    package = read_folder(PACKAGE)
    one = package.card.inputs[0].model_copy(update={"recipe": recipe(("crop", {"square": True}))})
    files, notes = to_monai(replaced(package, one))
    assert "preprocessing" not in json.loads(files["configs/inference.json"])
    assert any("'crop'" in note for note in notes)


def replaced(package: ModelPackage, one: Input) -> ModelPackage:
    card = package.card.model_copy(update={"inputs": (one,)})
    return replace(package, manifest=replace(package.manifest, card=card))
