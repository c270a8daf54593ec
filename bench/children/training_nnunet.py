"""nnU-Net as a process of bench/training.py, in an environment of its own: its planner, trainer and predictor.

    ENVIRONMENT/bin/python bench/children/training_nnunet.py TASK ARGUMENTS_AS_JSON

The trainer is nnU-Net's own with two changes. It runs for a wall-clock budget in place of 1,000 epochs: the rate falls
by nnU-Net's polynomial over the share of the budget that is spent, and no time goes to its validation. And where
another net is asked for, it trains that, without deep supervision.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training_parts.clock import Clock

DATASET = "Dataset004_Hippocampus"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed")
CONFIGURATION = "3d_fullres"
Arguments = Mapping[str, Any]


def prepare(arguments: Arguments) -> dict[str, Any]:
    """The folder of nnU-Net's form, then its fingerprint, plan and preprocessing by its own command."""
    began = time.monotonic()
    cases = json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    raw, prepared = (Path(os.environ[name]) / DATASET for name in FOLDERS)
    for folder in (raw, prepared):
        shutil.rmtree(folder, ignore_errors=True)
    for part, folder in (("images", "imagesTr"), ("labels", "labelsTr")):
        (raw / folder).mkdir(parents=True)
        for name in [*cases["learn"], *cases["choose"]]:
            written = raw / folder / f"{name}{'_0000' if part == 'images' else ''}.nii.gz"
            shutil.copyfile(Path(cases[part]) / f"{name}.nii.gz", written)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(cases["learn"]) + len(cases["choose"]),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    command = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    subprocess.run([command, "-d", "4", "-c", CONFIGURATION, "-npfp", "2", "-np", "2", "--no_pbar"], check=True)
    split = [{"train": cases["learn"], "val": cases["choose"]}]
    (prepared / "splits_final.json").write_text(json.dumps(split), encoding="utf-8")
    planned = json.loads((prepared / "nnUNetPlans.json").read_text(encoding="utf-8"))["configurations"][CONFIGURATION]
    return {
        "seconds": time.monotonic() - began,
        "patch": planned["patch_size"],
        "batch": planned["batch_size"],
        "net": planned["architecture"],
    }


def learn(arguments: Arguments) -> dict[str, Any]:
    """Train for the budget; mark-SHARE.pt in the folder are the weights at the marks."""
    import torch

    entered = time.monotonic()
    torch.set_num_threads(os.cpu_count() or 1)  # as nnUNetv2_train does on a CPU
    torch.manual_seed(arguments["seed"])
    trainer = _trainer(arguments)
    folder = Path(arguments["folder"])
    trainer.on_train_start()
    trainer.network.train()
    set_up = time.monotonic() - entered

    def keep(mark: float) -> None:
        kept = {"weights": trainer.network.state_dict(), "mirrored": trainer.inference_allowed_mirroring_axes}
        torch.save(kept, folder / f"mark-{mark}.pt")

    clock = Clock(arguments["budget_s"], arguments["marks"], keep, arguments["warm_s"])
    while not clock.over:
        trainer.lr_scheduler.step(clock.share * trainer.num_epochs)
        began = time.monotonic()
        batch = next(trainer.dataloader_train)
        waited = time.monotonic() - began
        clock.after_step(trainer.batch_size, waited, float(trainer.train_step(batch)["loss"]))
    told = clock.told()
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()
    size = sum(parameter.numel() for parameter in trainer.network.parameters())
    return told | {"set_up_s": set_up, "parameters": size}


def answer(arguments: Arguments) -> dict[str, Any]:
    """Label files of the cases to judge on, by nnU-Net's predictor as it is: windows and mirror images."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    cases = json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    trainer = _trainer(arguments)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(False)
    kept = torch.load(arguments["weights"], weights_only=True)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [kept["weights"]],
        trainer.dataset_json,
        type(trainer).__name__,
        kept["mirrored"],
    )
    folder = Path(arguments["folder"]) / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    predictor.predict_from_files_sequential(
        [[f"{cases['images']}/{name}.nii.gz"] for name in cases["judge"]],
        [str(folder / name) for name in cases["judge"]],
    )
    return {"seconds": time.monotonic() - began}


def _trainer(arguments: Arguments) -> Any:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    given = arguments.get("net")

    class OtherNet(nnUNetTrainer):  # type: ignore[misc]  # of another environment
        @staticmethod
        def build_network_architecture(*_arguments: Any, **_named: Any) -> Any:
            from residency.nets import build

            return build(given["name"], channels=1, classes=3, **given["parameters"])

        def set_deep_supervision_enabled(self, enabled: bool) -> None:
            """The other net has none."""

    prepared = Path(os.environ[FOLDERS[1]]) / DATASET
    plans = json.loads((prepared / "nnUNetPlans.json").read_text(encoding="utf-8"))
    described = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    if given:
        planned = plans["configurations"][CONFIGURATION]
        planned["patch_size"], planned["batch_size"] = arguments["patch"], arguments["batch"]
    plans["continue_training"] = False
    kind = OtherNet if given else nnUNetTrainer
    trainer = kind(plans, CONFIGURATION, 0, described, torch.device("cpu"))
    trainer.enable_deep_supervision = not given
    return trainer


if __name__ == "__main__":  # its workers import this file
    given = json.loads(sys.argv[2])
    found = {"prepare": prepare, "learn": learn, "answer": answer}[sys.argv[1]](given)
    Path(given["answer"]).write_text(json.dumps(found), encoding="utf-8")
