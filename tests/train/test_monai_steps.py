"""What MONAI does before and after a network, in our words: equal to the last digits, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from residency.errors import InputError
from residency.files.nifti import read_nifti
from residency.prepare import prepare
from residency.recipe import recipe
from residency.testing.bundles import image
from residency.train.importing.monai_config import Config, Described, Expression
from residency.train.importing.monai_steps import decision, preparation


@pytest.mark.parametrize(
    ("one", "told"),
    [
        ({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}, "transform 'Lambdad' has no equal"),
        ({"_target_": "HistogramNormalized", "keys": "image"}, "transform 'HistogramNormalized' has no equal"),
        ({"_target_": "Spacingd", "keys": "image", "pixdim": [1, 2, 3], "mode": 3}, "mode = 3"),
        ({"_target_": "Spacingd", "keys": "image", "pixdim": [1, 2, 3]}, "before any Orientation"),
        ({"_target_": "ScaleIntensityd", "keys": "image", "factor": 2.0}, "factor = 2.0"),
        ({"_target_": "CropForegroundd", "keys": "image", "select_fn": "$lambda x: x > 9"}, "select_fn"),
        ({"_target_": "CropForegroundd", "keys": "image", "margin": 2}, "margin"),
        ({"_target_": "Resized", "keys": "image", "spatial_size": [9, 9, 9]}, "mode = area"),
        ({"_target_": "NormalizeIntensityd", "keys": "image", "strange": 1}, "strange = 1"),
    ],
)
def test_transforms_without_an_exact_equal_are_refused_by_name(one: dict[str, Any], told: str) -> None:
    arguments = {key: value for key, value in one.items() if key != "_target_"}
    held = Config({"p": {"_target_": "Compose", "transforms": [one]}}, "inference.json").transforms(("p",))
    assert len(held) == 1
    assert held[0].arguments.keys() == arguments.keys()
    with pytest.raises(InputError, match=told):
        preparation(held, 1, "inference.json")


EXACT = [
    [
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "i",
            "a_min": -50,
            "a_max": 150,
            "b_min": -1,
            "b_max": 1,
            "clip": True,
        }
    ],
    [{"_target_": "ScaleIntensityRanged", "keys": "i", "a_min": -50, "a_max": 150}],
    [
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": "i",
            "lower": 2,
            "upper": 97,
            "b_min": 0,
            "b_max": 2,
            "clip": True,
        }
    ],
    [{"_target_": "ScaleIntensityRangePercentilesd", "keys": "i", "lower": 2, "upper": 97, "b_min": 0, "b_max": 1}],
    [{"_target_": "ClipIntensityPercentilesd", "keys": "i", "lower": 2, "upper": 97}],
    [{"_target_": "ScaleIntensityd", "keys": "i", "minv": -1.0, "maxv": 1.0}],
    [{"_target_": "NormalizeIntensityd", "keys": "i"}],
    [{"_target_": "NormalizeIntensityd", "keys": "i", "subtrahend": 3.0, "divisor": 7.0}],
    [{"_target_": "ScaleIntensityd", "keys": "i"}, {"_target_": "NormalizeIntensityd", "keys": "i", "nonzero": True}],
    [{"_target_": "CropForegroundd", "keys": "i", "source_key": "i", "margin": 1, "allow_smaller": True}],
    [{"_target_": "CropForegroundd", "keys": "i", "source_key": "i", "select_fn": "$lambda x: x > 0"}],
    [{"_target_": "DivisiblePadd", "keys": "i", "k": 16}],
    [{"_target_": "DivisiblePadd", "keys": "i", "k": [8, 1, 16], "mode": "reflect"}],
    [{"_target_": "Spacingd", "keys": "i", "pixdim": [0.7, 2.1, 1.0]}],
    [{"_target_": "Spacingd", "keys": "i", "pixdim": [2.0]}, {"_target_": "NormalizeIntensityd", "keys": "i"}],
    [{"_target_": "Resized", "keys": "i", "spatial_size": [11, 40, 20], "mode": "trilinear"}],
]


@pytest.mark.parametrize("listed", EXACT, ids=lambda one: "-".join(str(each["_target_"]) for each in one))
def test_a_translated_transform_gives_the_values_of_monais_own(listed: list[dict[str, Any]], tmp_path: Path) -> None:
    first = [{"_target_": "LoadImaged", "keys": "i"}, {"_target_": "EnsureChannelFirstd", "keys": "i"}]
    first += [{"_target_": "Orientationd", "keys": "i", "axcodes": "PSR"}]
    held = {"p": {"_target_": "Compose", "transforms": [*first, *listed]}}
    file = image(tmp_path, 5, (23, 18, 27))
    made = preparation(Config(held, "inference.json").transforms(("p",)), 1, "inference.json")
    assert made.orientation == "PSR"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = ConfigParser(held).get_parsed_content("p")({"i": str(file)})["i"]
    ours = prepare(read_nifti(file.read_bytes()), recipe(("orient", {"letters": "PSR"}), *made.steps)).volume.array
    assert ours.shape == wanted.shape[1:]
    np.testing.assert_allclose(ours, np.asarray(wanted[0]), atol=2e-4 * max(1.0, float(np.abs(ours).max())))


def test_what_comes_after_the_network_is_the_cards_decision() -> None:
    def one(kind: str, **arguments: Any) -> Described:
        return Described(kind, arguments)

    made, notes = decision((one("Activationsd", sigmoid=True), one("AsDiscreted", threshold=0.4)), 3, "x")
    assert (made, notes) == ({"activation": "sigmoid", "rule": "threshold", "threshold": 0.4}, ())
    largest = one("KeepLargestConnectedComponentd", applied_labels=[1, 2])
    made, _ = decision((one("AsDiscreted", argmax=True), largest), 3, "x")
    assert made == {"rule": "argmax", "largest_only": True}
    for bad, told in (
        (one("KeepLargestConnectedComponentd", applied_labels=[2]), "applied_labels"),
        (one("Lambdad", func=Expression("lambda x: x")), "Lambdad"),
        (one("AsDiscreted", threshold=0.5, argmax=True), "together"),
    ):
        with pytest.raises(InputError, match=told):
            decision((bad,), 3, "x")
