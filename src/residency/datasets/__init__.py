"""Cases to learn from: images with a reference or class labels, kept together by person; no torch.

Two scans, or two sides, of one person are alike in a way that no second person is. A split that parts them shows the
network its exam beforehand. So whatever is divided here is divided by person.
"""

from residency.datasets.case import Case, Gathered, Held, Image, Reference, digest, persons, read_case, read_images
from residency.datasets.folds import Fold, folds, held_out, in_fold, read_folds, strata_of, write_folds
from residency.datasets.table import Table, read_cases

__all__ = [
    "Case",
    "Fold",
    "Gathered",
    "Held",
    "Image",
    "Reference",
    "Table",
    "digest",
    "folds",
    "held_out",
    "in_fold",
    "persons",
    "read_case",
    "read_cases",
    "read_folds",
    "read_images",
    "strata_of",
    "write_folds",
]
