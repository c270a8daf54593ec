"""A recipe carried out on a volume, and the way back to the source's voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.errors import PixelError
from residency.prepare.registry import check_recipe
from residency.recipe import Recipe
from residency.volume import AxisMapping, Grid, Volume


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a network is given, and the grid that its answer must come back to.

    volume  float32 on the prepared grid
    source  the grid of the series as it came
    """

    volume: Volume
    source: Grid

    @property
    def back(self) -> AxisMapping:
        """Where each index of the source lies on the prepared grid: a signed permutation with scales."""
        return self.source.axis_mapping(self.volume.grid)


def prepare(volume: Volume, recipe: Recipe) -> Prepared:
    """Carry out a recipe, first step to last.

    Raises ConfigError for a recipe that cannot be carried out on any image, PixelError for values that are not
    finite numbers, GeometryError where a step does not fit this image. The volume is not changed.
    """
    steps = check_recipe(recipe)
    if not np.isfinite(volume.array).all():
        count = int(volume.array.size - np.isfinite(volume.array).sum())
        raise PixelError(f"{count} voxels are not finite numbers (NaN or infinity); send images without them")
    made = volume
    for step in steps:
        made = step.apply(made)
    return Prepared(made, volume.grid)


def labels_on(labels: npt.NDArray[np.integer], source: Grid, target: Grid) -> npt.NDArray[np.uint8]:
    """Reference labels of the source grid on another grid, by the nearest voxel; 0 outside the source.

    labels  integers 0..255, (slices, rows, columns) of `source`

    Raises GeometryError where the grids are rotated against each other (see `Grid.axis_mapping`), and PixelError
    where the labels do not lie on the source grid or exceed 255.
    """
    if labels.shape != source.shape or labels.min() < 0 or labels.max() > 255:
        raise PixelError(
            f"labels must be integers 0..255 on the grid of {source.shape}, got {labels.dtype} {labels.shape}"
        )
    mapping = target.axis_mapping(source)
    chosen: list[npt.NDArray[np.intp]] = []
    inside: list[npt.NDArray[np.bool_]] = []
    for axis in range(3):
        k = mapping.axes.index(axis)
        position = np.floor(np.arange(target.shape[k]) * mapping.scales[k] + mapping.offsets[k] + 0.5 - 1e-6)
        inside.append((position >= 0) & (position < source.shape[axis]))
        chosen.append(np.clip(position, 0, source.shape[axis] - 1).astype(np.intp))
    covered = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    found = np.where(covered, labels[np.ix_(*chosen)], 0)
    return np.ascontiguousarray(found.transpose([mapping.axes[k] for k in range(3)]), dtype=np.uint8)
