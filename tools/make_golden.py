"""Make the golden case of the hippocampus package: the template's crop, and what this network makes of it in f32.

python tools/make_golden.py FOLDER      writes golden-input.nii.gz, golden-expected.nii.gz and licence-golden.txt

FOLDER holds card.yaml, graph.onnx and what training wrote. Run it once for each graph; `residency models build` then
records the files in the manifest, and every site that admits the model replays them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from residency.card import parse_card
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.files.nifti import write_nifti
from residency.labels import Side
from residency.models.build import CARD_FILE, GRAPH_FILE, card_data
from residency.package import Payload, build_package
from residency.pipeline import replay
from residency.testing.template import NOTICE, hippocampus_crop


def main(folder: Path) -> None:
    """Write the three files and print the volumes found."""
    crop = hippocampus_crop(Side.LEFT)
    stored = write_nifti(crop.array.astype(np.uint8), crop.grid)
    (folder / "golden-input.nii.gz").write_bytes(stored)
    (folder / "licence-golden.txt").write_text(NOTICE, encoding="utf-8")
    graph = (folder / GRAPH_FILE).read_bytes()
    card = parse_card(card_data(folder, graph))
    empty = Payload("golden/expected", card.golden.expected, "application/x-nifti+gzip", b"")
    package = build_package(
        card,
        [
            Payload("graph", GRAPH_FILE, "application/onnx", graph),
            Payload("golden/input", card.golden.input, "application/x-nifti+gzip", stored),
            empty,
        ],
    )
    found = replay(crop, package, OpenVino(threads=2), Precision.F32)
    (folder / "golden-expected.nii.gz").write_bytes(write_nifti(found, crop.grid))
    for one in card.outputs[0].classes[1:]:
        print(f"{one.name}: {(found == one.index).sum() * crop.grid.voxel_mm3 / 1000:.2f} mL")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / CARD_FILE).is_file():
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
