"""A case is judged by what the package's card makes of scores, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from residency.datasets import Case
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.files.nifti import write_nifti
from residency.testing import cascades
from residency.train.evidence.answerer import Answerer
from residency.train.evidence.rows import judged
from residency.train.task import Judged

CLASSES = ("background", "Intracranial", "Hippocampus")


@pytest.mark.parametrize("alone", [False, True])
def test_the_largest_component_of_one_class_is_kept_alone(alone: bool, tmp_path: Path) -> None:
    package = cascades.localiser()
    output = package.card.outputs[0]
    classes = tuple(kind.model_copy(update={"largest_only": alone and kind.index == 1}) for kind in output.classes)
    card = package.card.model_copy(update={"outputs": (output.model_copy(update={"classes": classes}),)})
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    whole = cascades.head(spacing_mm=(4.0, 4.0, 4.0))
    labels = np.where(whole.array > cascades.CAVITY, 2, whole.array > 0).astype(np.uint8)
    array = whole.array.copy()
    array[:2, :2, :2] = cascades.CAVITY  # a piece of neck
    (tmp_path / "image.nii.gz").write_bytes(write_nifti(array, whole.grid))
    (tmp_path / "labels.nii.gz").write_bytes(write_nifti(labels, whole.grid))
    case = Case("a", "a", "val", {"image": tmp_path / "image.nii.gz"}, tmp_path / "labels.nii.gz", {})
    row = judged(case, Answerer(lambda: network, card, "0", "a package"), Judged(None, CLASSES, slice(0, 3), CLASSES))
    assert (row.figures["Intracranial"]["dice"] == 1.0) is alone
    assert row.figures["Hippocampus"]["dice"] == 1.0  # two of them, and both stay
