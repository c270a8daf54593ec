"""Make the golden case of a package that classifies chest radiographs: a drawn chest, and what this network says of it.

python tools/make_golden_radiograph.py FOLDER      writes golden-input.nii.gz and golden-expected.json

FOLDER holds card.yaml, graph.onnx and what training wrote. Run it once for each graph; `residency models build` then
records the files in the manifest, and every site that admits the model replays them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from residency.card import parse_card
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.files.nifti import read_nifti, write_nifti
from residency.models.build import CARD_FILE, GRAPH_FILE, card_data
from residency.package import Payload, build_package
from residency.pipeline import replay
from residency.testing.chest import drawn_chest
from residency.volume import regular_grid


def main(folder: Path) -> None:
    """Write both files and print the probabilities."""
    drawn = drawn_chest(opacity=True)[None]
    stored = write_nifti(drawn, regular_grid(drawn.shape, (1.0, 0.5, 0.5)))
    graph = (folder / GRAPH_FILE).read_bytes()
    card = parse_card(card_data(folder, graph))
    package = build_package(
        card,
        [
            Payload("graph", GRAPH_FILE, "application/onnx", graph),
            Payload("golden/input", card.golden.input, "application/x-nifti+gzip", stored),
            Payload("golden/expected", card.golden.expected, "application/json", b""),
        ],
    )
    found = replay({card.inputs[0].name: read_nifti(stored)}, package, OpenVino(threads=1), Precision.F32)
    said = {kind.name: round(float(p), 6) for kind, p in zip(card.outputs[0].classes, found, strict=True)}
    (folder / "golden-input.nii.gz").write_bytes(stored)
    (folder / "golden-expected.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{name}: {p:.4f}" for name, p in said.items()))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / CARD_FILE).is_file():
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
