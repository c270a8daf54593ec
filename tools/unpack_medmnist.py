"""Unpack a grey 2D set of MedMNIST into what a hospital's researcher has: a folder of PNG pictures with a table.

    python tools/unpack_medmnist.py FILE.npz FOLDER COLUMN CLASS CLASS ...

    python tools/unpack_medmnist.py pneumoniamnist.npz runs/pneumoniamnist finding normal pneumonia

COLUMN is that of the table which holds the class; classes stand in the order of MedMNIST's numbers. A picture is called
after its split and its content, so that the order of the file is of no consequence. The set names no persons: a picture
is taken for a person of its own, and exact copies for one and the same person, wherever they are.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "val", "test")


def main(file: Path, folder: Path, column: str, classes: list[str]) -> None:
    """Write images/*.png and cases.csv, and print how many pictures of each class a split has."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    with np.load(file, allow_pickle=False) as held:
        for split in SPLITS:
            images, labels = held[f"{split}_images"], held[f"{split}_labels"].reshape(-1)
            if images.ndim != 3 or images.dtype != np.uint8 or len(images) != len(labels):
                sys.exit(f"{file}: {split}_images are not grey pictures of 8 bits, one for each label")
            if not set(labels.tolist()) <= set(range(len(classes))):
                sys.exit(f"{file}: {split}_labels has {sorted(set(labels.tolist()))}, for {len(classes)} classes")
            copies: Counter[str] = Counter()
            for image, label in zip(images, labels, strict=True):
                content = hashlib.sha256(image.tobytes()).hexdigest()[:16]
                copies[content] += 1
                name = f"{split}-{content}" + (f"-{copies[content]}" if copies[content] > 1 else "")
                Image.fromarray(image).save(folder / "images" / f"{name}.png")
                rows.append((name, content, split, classes[int(label)]))
            said = ", ".join(f"{int((labels == n).sum())} {name}" for n, name in enumerate(classes))
            print(f"{split}: {said}; {sum(copies.values()) - len(copies)} exact copies within")
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("name", "person", "split", column))
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
