"""Make a small data set that shows nobody, for the tutorial on training: CT of a body in which a nodule lies.

python tools/make_phantom_set.py FOLDER [CASES]

writes FOLDER/scans/images and FOLDER/scans/labels (NIfTI, one nodule a case, 24 cases unless said otherwise), and
FOLDER/study, the DICOM series of one body more. Equal arguments give equal files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from residency.files.nifti import write_nifti
from residency.testing.phantoms import ct_series
from residency.volume import Volume, regular_grid

SHAPE, SPACING = (20, 28, 28), (3.0, 2.0, 2.0)
AIR, FAT, NODULE = -1000.0, -60.0, 90.0
"""HU."""


def body(number: int) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """A body of fat with a nodule somewhere in it and a brighter rod that is none, in noise; and the nodule's mask."""
    random = np.random.default_rng(number)
    places = np.moveaxis(np.indices(SHAPE, dtype=np.float64), 0, -1) * SPACING
    middle = (np.array(SHAPE) - 1) * SPACING / 2
    inside = (((places - middle)[..., 1:] / (25, 24)) ** 2).sum(-1) <= 1
    centre = middle + random.uniform(-1, 1, 3) * (14, 10, 10)
    nodule = (((places - centre) / random.uniform(7, 11, 3)) ** 2).sum(-1) <= 1
    rod = ((places - middle)[..., 1:] - (16, 0)) ** 2
    values = np.where(inside, FAT, AIR)
    values[inside & (rod.sum(-1) <= 16)] = 300
    values[nodule & inside] = NODULE
    values = gaussian_filter(values, 0.4) + random.normal(0, 18, SHAPE)
    values = np.rint(values).clip(-1024, 3000).astype(np.float32)
    return Volume(values, regular_grid(SHAPE, SPACING)), (nodule & inside).astype(np.uint8)


def main(folder: Path, cases: int) -> None:
    """Write everything."""
    for part in ("scans/images", "scans/labels", "study"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(1, cases + 1):
        volume, mask = body(number)
        (folder / f"scans/images/body{number:02}.nii.gz").write_bytes(
            write_nifti(volume.array.astype(np.int16), volume.grid)
        )
        (folder / f"scans/labels/body{number:02}.nii.gz").write_bytes(write_nifti(mask, volume.grid))
    volume, mask = body(cases + 1)
    for number, data in enumerate(ct_series(volume, study="Tutorial", series="Body"), 1):
        (folder / f"study/{number:03}.dcm").write_bytes(data)
    print(f"{cases} cases in {folder / 'scans'}; in {folder / 'study'} a nodule of {mask.sum() * 12 / 1000:.2f} mL")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not sys.argv[-1 if len(sys.argv) == 2 else 2]:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 24)
