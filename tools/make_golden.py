"""Make the golden case of a shipped package out of the template, and what its network makes of it in f32.

python tools/make_golden.py FOLDER      writes golden-input.nii.gz, golden-expected.nii.gz and licence-golden.txt

FOLDER holds card.yaml, graph.onnx and what training wrote. Run it once for each graph; `residency models build` then
records the files in the manifest, and every site that admits the model replays them. The image is a crop of the
template for the hippocampus, and the template in a skull and scalp made by code for heads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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
from residency.testing.dressed import dressed_template
from residency.testing.template import NOTICE, hippocampus_crop
from residency.volume import Volume

IMAGES: dict[str, tuple[Callable[[], Volume], str]] = {
    "hippocampus": (lambda: hippocampus_crop(Side.LEFT), ""),
    "head": (lambda: dressed_template(2.0), "\nThe skull and the scalp were added by the code of Residency.\n"),
}
"""What each family is shown, and what is added to the template's notice."""


def main(folder: Path) -> None:
    """Write the three files and print the volumes found."""
    graph = (folder / GRAPH_FILE).read_bytes()
    card = parse_card(card_data(folder, graph))
    make, added = IMAGES[card.identity.family]
    made = make()
    image = Volume(np.clip(np.rint(made.array), 0, 255).astype(np.float32), made.grid)
    stored = write_nifti(image.array.astype(np.uint8), image.grid)
    (folder / "golden-input.nii.gz").write_bytes(stored)
    (folder / "licence-golden.txt").write_text(NOTICE + added, encoding="utf-8")
    empty = Payload("golden/expected", card.golden.expected, "application/x-nifti+gzip", b"")
    package = build_package(
        card,
        [
            Payload("graph", GRAPH_FILE, "application/onnx", graph),
            Payload("golden/input", card.golden.input, "application/x-nifti+gzip", stored),
            empty,
        ],
    )
    found = replay({card.inputs[0].name: image}, package, OpenVino(threads=2), Precision.F32)
    (folder / "golden-expected.nii.gz").write_bytes(write_nifti(found, image.grid))
    for one in card.outputs[0].classes[1:]:
        print(f"{one.name}: {(found == one.index).sum() * image.grid.voxel_mm3 / 1000:.2f} mL")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / CARD_FILE).is_file():
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
