"""A small bundle of MONAI, as those of its model zoo are written: what is in its files, and images for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SPACING = (1.0, 1.3, 0.8)
"""mm of a voxel of `image`."""

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
"""What `inference` says of the network."""


def metadata(**changed: Any) -> dict[str, Any]:
    """configs/metadata.json; `changed` replaces keys."""
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
    """configs/inference.json with the expressions that bundles hold; `changed` replaces keys."""
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
"""Fields of a card that no bundle tells."""


def written(folder: Path, meta: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> Path:
    """A bundle's folder, without a network."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "configs/metadata.json").write_text(json.dumps(meta or metadata()))
    (folder / "configs/inference.json").write_text(json.dumps(config or inference()))
    (folder / "LICENSE").write_text("\n      Apache License\n      Version 2.0, January 2004\n")
    return folder


def image(folder: Path, seed: int, shape: tuple[int, int, int] = (44, 30, 41)) -> Path:
    """A ball in noise, in HU, stored as LAS: x runs to the left, so that axes must be turned."""
    random = np.random.default_rng(seed)
    centre = np.array(shape) * SPACING / 2 + random.uniform(-5, 5, 3)
    place = np.moveaxis(np.indices(shape), 0, -1) * SPACING
    inside = np.linalg.norm(place - centre, axis=-1) < random.uniform(8, 11)
    values = np.where(inside, 90.0, 10.0) + random.normal(0, 25, shape)
    file = folder / f"image{seed}.nii.gz"
    affine = np.diag([-SPACING[0], *SPACING[1:], 1])
    nibabel.Nifti1Image(values.astype(np.float32), affine).to_filename(file)  # type: ignore[no-untyped-call]
    return file
