"""Bundles of MONAI that were made to do harm, or that nobody can import: refused by name, and nothing is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from residency.errors import InputError, ResidencyError, TrainingError
from residency.testing.bundles import NETWORK, inference, metadata, written
from residency.train.importing.monai import read_bundle
from residency.train.importing.monai_card import draft_card, read_metadata
from residency.train.importing.monai_config import Config, Expression


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


def test_torchscript_is_refused_in_words(tmp_path: Path) -> None:
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
        ({**NETWORK, "num_res_units": 5000}, "num_res_units = 5000 is no plain value"),  # built before it is compared
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


def test_a_link_that_leads_out_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    """Else the file of a person would stand in the licence of a package that is published."""
    (tmp_path / "secret").write_text("mine")
    folder = written(tmp_path / "b")
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="'LICENSE' is a link that leads out of the folder"):
        read_bundle(folder)


def test_a_window_that_nobody_could_see_at_once_is_refused(tmp_path: Path) -> None:
    window = {"_target_": "SlidingWindowInferer", "roi_size": [100_000, 100_000, 100_000]}
    folder = written(tmp_path / "b", config=inference(inferer=window))
    with pytest.raises(InputError, match="a window of 100000 x 100000 x 100000 with 1 channels is too large"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("said", "cited"), [(None, None), ("Somebody (2026)", ["Somebody (2026)"]), (["a", "", 3], ["a", "3"])]
)
def test_references_of_any_form_are_cited_whole(said: Any, cited: Any) -> None:
    card = draft_card(read_metadata(metadata(references=said), "b"), None)
    assert card["identity"].get("citations") == cited


def test_names_steer_no_terminal(tmp_path: Path) -> None:
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("\x1b[2Jb/configs/metadata.json", json.dumps(metadata()))
    with pytest.raises(InputError, match="is no plain name") as told:
        read_bundle(packed)
    assert str(told.value).isprintable()
