"""A network that nnU-Net trained, imported: does it outline what nnU-Net itself outlines?

    python bench/nnunet_import.py --nnunet PYTHON [--folder FOLDER] [--quick] [--json FILE]

PYTHON is that of an environment of its own in which nnU-Net v2 is installed (docs/how-to/import-from-nnunet.md says
how); it and Residency never meet in one process. nnU-Net plans, preprocesses, trains and predicts; `residency import
nnunet` reads the results folder, and the package is run as any other, through recipe, windows, engine and decision.

Everything is made anew in FOLDER, a temporary one if none is given; a run that is begun again there goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from contract import REPOSITORY, Claim, Report, main
from residency.card import parse_card
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.files.nifti import read_nifti, read_nifti_labels
from residency.infer import infer
from residency.prepare import prepare
from residency.train.importing.nnunet import find, write

CHILD = REPOSITORY / "bench" / "children" / "nnunet_import_child.py"
GOAL = 0.999
OTHER_SPACING = (1.2, 0.9, 1.1)
PATCH = (32, 40, 32)
"""Smaller than the crops, so that each is cut into several windows."""

OWN = argparse.ArgumentParser(add_help=False)
OWN.add_argument("--nnunet", required=True, metavar="PYTHON", help="Python of the environment that has nnunetv2")
OWN.add_argument("--folder", type=Path, metavar="FOLDER", help="where networks and predictions are kept")
OWN.add_argument("--data", type=Path, metavar="FOLDER", help="hippocampus set: cases.csv, images, labels")

_CODE = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
GIVEN: dict[str, Any] = {
    "identity": {
        "name": "Hippocampus by nnU-Net",
        "family": "hippocampus-nnunet",
        "version": "1.0.0",
        "sequence": 1,
        "publisher": {"id": "bench", "name": "bench/nnunet_import.py"},
        "created": "2026-11-21T00:00:00Z",
        "summary": "Trained for minutes, to prove the import.",
    },
    "licences": {"code": "Apache-2.0", "weights": "CC-BY-SA-4.0"},
    "inputs": [{"modalities": ["MR"], "regions": [_CODE]}],
    "outputs": [
        {
            "classes": [
                {},
                *[
                    {
                        "category": {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"},
                        "type": _CODE,
                    }
                ]
                * 2,
            ]
        }
    ],
    "intended_use": {
        "statement": "None",
        "users": "None",
        "population": "None",
        "out_of_scope": [],
        "oversight": "None",
        "role": "demonstration",
    },
    "regulatory": {"status": "research only", "notice": "Research use only."},
    "training": {
        "datasets": [],
        "split": "none",
        "seed": 0,
        "augmentation": "nnU-Net's",
        "loss": "nnU-Net's",
        "optimiser": "nnU-Net's",
        "steps": 0,
        "hardware": "CPU",
        "duration_minutes": 0,
    },
    "golden": {"input": "none", "expected": "none", "source": "none"},
}
"""What a person says. The package is not built: it is the network that is compared."""


def bench(quick: bool) -> Report:
    options, _ = OWN.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        job = _job(options.data, quick)
        (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
        for step in ("prepare", "train", "predict"):
            print(f"nnU-Net: {step}", file=sys.stderr, flush=True)
            with (folder / f"{step}.log").open("w", encoding="utf-8") as log:
                subprocess.run([options.nnunet, str(CHILD), step, str(folder)], stdout=log, stderr=log, check=True)
        rows = [row for run in job["runs"] for row in _compared(run, job, folder)]
    worst = min(row["equal voxels, least"] for row in rows)
    return Report(
        title="nnU-Net's outlines, and those of its network imported",
        rows=rows,
        claims=(
            Claim(
                "an imported network of nnU-Net outlines what nnU-Net outlines",
                "nnU-Net 2.8.1 on the same files",
                f"labels equal in at least {100 * GOAL:g} % of the voxels of every case",
                f"{100 * worst:.4f} % in the worst case",
                holds=worst >= GOAL,
            ),
        ),
        notes=(
            f"{len(job['test'])} cases of split val; networks trained on {len(job['train'])} cases of split train for "
            f"{job['epochs']} epochs of {job['iterations']} batches of 2, the second and third for one more.",
            "3d_fullres needs no resampling on these 1 mm crops; 3d_other is planned at "
            f"{' x '.join(map(str, OTHER_SPACING))} mm, so that images and scores are resampled there.",
        ),
    )


def _job(data: Path | None, quick: bool) -> dict[str, Any]:
    data = data or REPOSITORY.parent / "shared" / "data" / "hippocampus"
    with (data / "cases.csv").open(encoding="utf-8", newline="") as opened:
        cases = list(csv.DictReader(opened))
    files = [
        {
            "name": case["name"],
            "split": case["split"],
            "image": str((data / "images" / f"{case['name']}.nii.gz").resolve()),
            "label": str((data / "labels" / f"{case['name']}.nii.gz").resolve()),
        }
        for case in cases
    ]
    runs = [("one fold", "3d_fullres", [0], False)]
    if not quick:
        runs += [
            ("one fold, mirrored", "3d_fullres", [0], True),
            ("two folds", "3d_fullres", [0, 1], False),
            ("other spacing", "3d_other", [0], False),
        ]
    named = [{"name": n, "configuration": c, "folds": f, "mirror": m} for n, c, f, m in runs]
    return {
        "train": [one for one in files if one["split"] == "train"][: 15 if quick else 40],
        "test": [one for one in files if one["split"] == "val"][: 3 if quick else 6],
        "networks": sorted({(run["configuration"], fold) for run in named for fold in run["folds"]}),
        "runs": named,
        "epochs": 2 if quick else 8,
        "iterations": 50,
        "widest": 128,
        "patch": PATCH,
        "other_spacing": OTHER_SPACING,
        "threads": 1,
    }


def _compared(run: dict[str, Any], job: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    results = (
        folder / "nnUNet_results" / "Dataset004_Hippocampus" / f"nnUNetTrainer__nnUNetPlans__{run['configuration']}"
    )
    found = find(results, [str(fold) for fold in run["folds"]])
    with tempfile.TemporaryDirectory() as made:
        package = Path(made) / "package"
        # The crops are stored with columns to the right, rows to the front, slices upwards.
        written = write(found, package, letters="SAR", mirror=run["mirror"], given=GIVEN)
        graph, card_file = (package / "graph.onnx").read_bytes(), package / "card.yaml"
        card = parse_card(_card(card_file) | {"parameters": 1})
    network = OpenVino(threads=1).load(graph, precision=Precision.F32)
    shares, inside = [], []
    for case in job["test"]:
        volume = read_nifti(Path(case["image"]).read_bytes())
        prepared = {card.inputs[0].name: prepare(volume, card.inputs[0].recipe)}
        ours = infer(prepared, network, card)[card.outputs[0].name]
        theirs, _ = read_nifti_labels((folder / "predicted" / run["name"] / f"{case['name']}.nii.gz").read_bytes())
        shares.append(float((ours == theirs).mean()))
        either = (ours > 0) | (theirs > 0)
        inside.append(float((ours == theirs)[either].mean()) if either.any() else 0.0)
    return [
        {
            "run": run["name"],
            "configuration": run["configuration"],
            "cases": len(shares),
            "passes a window": written.passes,
            "equal voxels, mean": float(np.mean(shares)),
            "equal voxels, least": min(shares),
            "equal of the outlined, least": min(inside),
        }
    ]


def _card(file: Path) -> dict[str, Any]:
    from residency.files.strict_yaml import read_yaml

    return read_yaml(file.read_bytes(), str(file))


if __name__ == "__main__":
    main(bench, __doc__.splitlines()[0], [OWN])
