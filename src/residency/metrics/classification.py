"""What a decided classification gets right, class by class.

| cases of the class | said to be of the class | sensitivity | precision |
|---|---|---|---|
| some | some | share found | share right |
| some | none | 0: the class was missed | 0, though 0 / 0: nothing is gained by saying nothing |
| none | some | nan: nothing to find | 0 |
| none | none | nan | nan |

Specificity is nan where every case is of the class. It is given for classification only: of a segmentation, it tells
how much air surrounds the patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer]
Matrix = npt.NDArray[np.int64]


def confusion_matrix(predicted: Labels, truths: Labels, classes: int) -> Matrix:
    """Cases by class: (classes, classes), row = truth, column = prediction. Labels (n,) are 0..classes-1.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    for labels in (predicted, truths):
        if labels.ndim != 1 or labels.shape != truths.shape or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels are two arrays of integers of one shape (cases,), got {labels.dtype} {labels.shape}"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels are 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    flat = np.bincount(truths.astype(np.int64) * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


@dataclass(frozen=True)
class Counts:
    """One class against all others, in cases."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def sensitivity(self) -> float:
        """Share of the cases of this class that were found."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Share of the other cases that were left alone."""
        return _share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def precision(self) -> float:
        """Share of the cases said to be of this class that are."""
        said = self.true_positives + self.false_positives
        return 0.0 if not said and self.false_negatives else _share(self.true_positives, said)


def counts(matrix: Matrix) -> tuple[Counts, ...]:
    """The counts of each class, from a confusion matrix."""
    right, total = np.diagonal(matrix), int(matrix.sum())
    cases, said = matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(
        Counts(int(hit), int(column - hit), int(row - hit), int(total - row - column + hit))
        for hit, row, column in zip(right, cases, said, strict=True)
    )


def accuracy(matrix: Matrix) -> float:
    """Share of all cases that got their class; nan without cases."""
    return _share(int(np.trace(matrix)), int(matrix.sum()))


def balanced_accuracy(matrix: Matrix) -> float:
    """Mean sensitivity of the classes that have cases; nan without cases."""
    found = [one.sensitivity for one in counts(matrix) if not math.isnan(one.sensitivity)]
    return math.fsum(found) / len(found) if found else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
