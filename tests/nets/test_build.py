"""Building by name: values of another kind than the default, and nets that no memory holds, are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from residency.errors import ConfigError
from residency.nets import build
from residency.train.net_part import NetPart


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("monet", {"head_bn": "no"}, "'head_bn' of net 'monet' is true or false, got 'no'"),
        ("monet", {"head_bn": 0}, "is true or false, got 0"),
        ("monet", {"filters": True}, "'filters' of net 'monet' is a whole number, got True"),
        ("monet", {"filters": 4.0}, "is a whole number, got 4.0"),
        ("monet", {"dropout": "0.1"}, "'dropout' of net 'monet' is a number, got '0.1'"),
        ("monet", {"dropout": False}, "is a number, got False"),
        ("monet", {"dropout": float("nan")}, "dropout is a share"),
        ("resnet18", {"stem": 7}, "'stem' of net 'resnet18' is a word, got 7"),
        ("unet", {"features": "abc"}, "'features' of net 'unet' is a list of whole numbers, got 'abc'"),
        ("unet", {"features": 4}, "is a list of whole numbers, got 4"),
        ("unet", {"features": (4, 8.5)}, r"is a list of whole numbers, got \(4, 8.5\)"),
        ("unet", {"features": (4, True)}, r"is a list of whole numbers, got \(4, True\)"),
        ("unet", {"features": None}, "is a list of whole numbers, got None"),
        ("unet", {"features": ("x" * 1000,)}, "is a list of whole numbers"),
        ("planned-unet", {"kernels": [[1, 3, 3], [3, 3, 3]]}, r"list of whole numbers \(numbers one after the other"),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        build(name, **parameters)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("size", [10**5, 10**10, 10**30])
def test_a_net_that_is_far_too_large_is_refused_in_one_line(size: int) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="net 'unet' cannot be built") as raised:
        build("unet", features=(size**2, size**2))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_whole_number_will_do_for_a_number_and_a_list_for_a_tuple() -> None:
    build("monet", filters=2, dropout=0)
    build("unet", features=[2, 4])


def test_true_stays_true_on_its_way_from_a_training_file() -> None:
    given: dict[str, Any] = {"head_bn": True, "filters": 1, "dropout": 0.5, "middle_dilations": [3, 2, 1, 1]}
    parameters = NetPart(name="monet-3d", parameters=given).parameters
    assert parameters["head_bn"] is True
    assert parameters["filters"] is not True
    build("monet-3d", **parameters)
