"""nnU-Net's part of bench/nnunet_import.py, run by the Python of an environment that has nnunetv2 and not Residency.

    python nnunet_import_child.py prepare|train|predict FOLDER

FOLDER holds `job.json` (training cases, test images, epochs ...) and gets nnU-Net's own three folders; what is there is
not made again. Everything is nnU-Net's: its planner, preprocessing, trainer and predictor. Only the plans are made
small (fewer features, smaller patches, a batch of two), and a second configuration with other spacings is put beside
the first.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

folder = Path(sys.argv[2])
job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    (folder / name).mkdir(exist_ok=True)
    os.environ[name] = str(folder / name)
# 0: batches are made in this process; the planner takes the number for its threads, and needs one.
os.environ["nnUNet_n_proc_DA"] = "1" if sys.argv[1] == "prepare" else "0"  # noqa: SIM112
os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "false"}
os.environ["OMP_NUM_THREADS"] = str(job["threads"])

import torch  # noqa: E402
from nnunetv2.experiment_planning import plan_and_preprocess_api as api  # noqa: E402
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402

torch.set_num_threads(job["threads"])
DATASET = "Dataset004_Hippocampus"
PLANS = folder / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"


def prepare() -> None:
    """The data set in nnU-Net's form, its plans made small, both configurations preprocessed."""
    raw = folder / "nnUNet_raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for case in job["train"]:
        shutil.copy(case["image"], raw / "imagesTr" / f"{case['name']}_0000.nii.gz")
        shutil.copy(case["label"], raw / "labelsTr" / f"{case['name']}.nii.gz")
    told = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(job["train"]),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    if PLANS.exists():
        return
    api.extract_fingerprints([4], num_processes=1, check_dataset_integrity=False)
    api.plan_experiments([4])
    plans = json.loads(PLANS.read_text(encoding="utf-8"))
    full = plans["configurations"]["3d_fullres"]
    shape = full["architecture"]["arch_kwargs"]
    shape["features_per_stage"] = [min(one, job["widest"]) // 4 for one in shape["features_per_stage"]]
    full["batch_size"], full["patch_size"] = 2, job["patch"]
    plans["configurations"]["3d_other"] = {
        "inherits_from": "3d_fullres",
        "spacing": job["other_spacing"],
        "data_identifier": "nnUNetPlans_3d_other",
    }
    PLANS.write_text(json.dumps(plans, indent=1), encoding="utf-8")
    api.preprocess([4], configurations=["3d_fullres", "3d_other"], num_processes=[1, 1])


def train() -> None:
    """Each network by nnU-Net's own trainer: the first from nothing, the others go on from it for an epoch.

    A training that was cut off, or ended with fewer epochs, goes on from its checkpoint.
    """
    first: str | None = None
    for configuration, fold in job["networks"]:
        trainer = get_trainer_from_args(DATASET, configuration, fold, device=torch.device("cpu"))
        trainer.num_epochs = job["epochs"] + (first is not None)
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = job["iterations"], 2
        trainer.save_every = 1
        places = [Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest")]
        begun = next((str(place) for place in places if place.exists()), first)
        if begun is not None:
            trainer.load_checkpoint(begun)
        first = first or str(places[0])
        if trainer.current_epoch < trainer.num_epochs:
            trainer.run_training()


def predict() -> None:
    """Labels of each test image as FOLDER/predicted/RUN/NAME.nii.gz, by nnU-Net's own predictor."""
    results = folder / "nnUNet_results" / DATASET
    reader = SimpleITKIO()
    for run in job["runs"]:
        out = folder / "predicted" / run["name"]
        out.mkdir(parents=True, exist_ok=True)
        predictor = nnUNetPredictor(
            use_mirroring=run["mirror"],
            device=torch.device("cpu"),
            perform_everything_on_device=False,
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(
            str(results / f"nnUNetTrainer__nnUNetPlans__{run['configuration']}"), tuple(run["folds"])
        )
        for case in job["test"]:
            image, properties = reader.read_images([case["image"]])
            labels = predictor.predict_single_npy_array(image, properties)
            reader.write_seg(labels, str(out / f"{case['name']}.nii.gz"), properties)


if __name__ == "__main__":
    {"prepare": prepare, "train": train, "predict": predict}[sys.argv[1]]()
