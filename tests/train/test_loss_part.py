"""How a training file names its losses: every form, what is refused and how, and that old files keep their digests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ConfigError
from residency.train.config import TrainingConfig, read_config
from residency.train.loss_part import LOSSES, LossPart

Written = Callable[[dict[str, Any]], Path]

SHIPPED = ("e6042fb68a83db4142ae0045a4069a6c23c8f44f3e71d457647cf973cf853c63", "d7ee906082387df9bcb8ef97573807ce")


def _read(value: Any) -> LossPart:
    return LossPart.model_validate(value)


def test_a_training_file_that_names_the_first_loss_keeps_its_digests(repository: Path) -> None:
    config = read_config(repository / "models" / "hippocampus" / "train.yaml")
    assert config.digest() == SHIPPED[0]
    assert config.learning_digest().startswith(SHIPPED[1])
    assert config.model_dump(mode="json")["loss"] == "dice-cross-entropy"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("dice", [{"name": "dice"}]),
        ({"dice": 1.0, "focal": 0.5}, [{"name": "dice"}, {"name": "focal", "weight": 0.5}]),
        ({"dice": 1}, ["dice"]),
        ({"name": "focal", "parameters": {"gamma": 2.0}}, "focal"),
        ({"name": "focal", "parameters": {"gamma": 3}}, [{"name": "focal", "parameters": {"gamma": 3.0}}]),
    ],
)
def test_forms_that_say_the_same_are_the_same(short: Any, long: Any) -> None:
    assert _read(short) == _read(long)
    assert _read(short).model_dump(mode="json") == _read(long).model_dump(mode="json")


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_dumped_is_read_again(name: str) -> None:
    value = {"dice": 0.25, name: 2.0} if name != "dice" else "dice"
    part = _read(value)
    for mode in ("json", "python"):
        assert _read(part.model_dump(mode=mode)) == part


def test_every_word_of_a_loss_is_in_the_digest(small_values: dict[str, Any], written: Written) -> None:
    losses = [
        "dice-cross-entropy",
        "dice",
        {"dice": 2.0},
        {"dice": 1.0, "focal": 0.5},
        {"dice": 1.0, "focal": 0.6},
        [{"name": "dice"}, {"name": "focal", "weight": 0.5, "parameters": {"gamma": 3.0}}],
    ]
    digests = [read_config(written(small_values | {"loss": loss})).learning_digest() for loss in losses]
    assert len(set(digests)) == len(losses)
    assert read_config(written(small_values)).learning_digest() == digests[0]


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("dcie", "unknown loss 'dcie', did you mean 'dice'"),
        ("zzz", "unknown loss 'zzz', known: dice-cross-entropy, dice, "),
        ({"dice": 1.0, "focl": 1.0}, "unknown loss 'focl', did you mean 'focal'"),
        ({"dice": 0}, "the weight of 'dice' is a number above 0, got 0"),
        ({"dice": -1.0}, "the weight of 'dice' is a number above 0, got -1.0"),
        ({"dice": float("inf")}, "the weight of 'dice' is a number above 0, got inf"),
        ({"dice": "1"}, "the weight of 'dice' is a number above 0, got '1'"),
        ({"dice": True}, "the weight of 'dice' is a number above 0, got True"),
        ({"dice": {"squared": True}}, "the weight of 'dice' is a number above 0"),
        ([{"name": "dice", "wieght": 1.0}], "unknown key 'wieght', did you mean 'weight'"),
        ([{"weight": 1.0}], "each of a list has a name"),
        ([["dice"]], "each of a list has a name"),
        ([], "a list of losses is expected, got"),
        ({}, "a list of losses is expected, got"),
        (None, "a list of losses is expected, got None"),
        (3, "a list of losses is expected, got 3"),
        (["dice", "dice"], "named twice: dice"),
        ("boundary", "'boundary' alone cannot tell where a structure is"),
        ({"name": "focal", "parameters": {"gama": 2}}, "unknown parameter of 'focal' 'gama', did you mean 'gamma'"),
        (
            {"name": "dice-cross-entropy", "parameters": {"a": 1}},
            "unknown parameter of 'dice-cross-entropy' 'a', known: none",
        ),
        ({"name": "focal", "parameters": {"gamma": 0.5}}, "parameters of 'focal': gamma is 0, or at least 1"),
        (
            {"name": "focal", "parameters": {"gamma": "2"}},
            "parameters of 'focal': gamma: a number is expected",
        ),
        ({"name": "focal", "parameters": {"alpha": 1.0}}, "alpha: a number below 1 is expected, got 1.0"),
        ({"name": "tversky", "parameters": {"alpha": 0.0}}, "alpha: a number above 0 is expected, got 0.0"),
        ({"name": "focal-tversky", "parameters": {"gamma": 0.5}}, "gamma: a number of at least 1 is expected"),
        (
            {"name": "cross-entropy", "parameters": {"weights": [1.0, 0.0, 1.0]}},
            "weights: a number above 0 is expected",
        ),
        (
            {"name": "cross-entropy", "parameters": {"weights": [1.0, 2.0]}},
            "weights: one for each of 3 classes is needed",
        ),
        ({"name": "dice", "parameters": [1]}, "names with their values are expected"),
    ],
)
def test_a_wrong_loss_is_refused_in_one_line(
    small_values: dict[str, Any], written: Written, loss: Any, said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(written(small_values | {"loss": loss}))
    assert "train.yaml: loss: " in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_losses_that_compare_masks_are_not_for_classification() -> None:
    for name in ("cross-entropy", "binary-cross-entropy", "focal"):
        _read(name).check(4, task="classification")
    with pytest.raises(ConfigError, match="'dice' compares masks; classification has cross-entropy, "):
        _read({"cross-entropy": 1.0, "dice": 1.0}).check(4, task="classification")


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("dice-cross-entropy", "dice-cross-entropy: soft Dice of the foreground classes plus cross-entropy"),
        (
            [{"name": "dice", "parameters": {"squared": True}}, {"name": "boundary", "weight": 0.01}],
            "1 x dice: soft Dice of the foreground classes, squared denominator; "
            "0.01 x boundary: boundary loss of the foreground classes",
        ),
        (
            {"name": "focal-tversky", "parameters": {"beta": 0.8, "background": True}},
            "focal-tversky: focal Tversky of all classes (false positives 0.3, false negatives 0.8, gamma 1.333)",
        ),
        (
            {"name": "cross-entropy", "parameters": {"weights": [0.5, 2, 2], "smoothing": 0.1}},
            "cross-entropy: cross-entropy, classes weighted 0.5 : 2 : 2, labels smoothed by 0.1",
        ),
        (
            {"name": "focal", "parameters": {"alpha": 0.75}},
            "focal: focal cross-entropy (gamma 2, foreground weighted 0.75)",
        ),
        (
            {"name": "binary-cross-entropy", "parameters": {"positive_weight": 3}},
            "binary-cross-entropy: binary cross-entropy of each class, positives weighted 3",
        ),
    ],
)
def test_a_card_tells_the_loss_that_was_used(loss: Any, told: str) -> None:
    assert _read(loss).told() == told


def test_the_examples_in_the_documentation_are_read(small_values: dict[str, Any], written: Written) -> None:
    import yaml

    from residency.train import loss_part

    text = str(loss_part.__doc__)
    examples = text.split("    loss:")[1:]
    assert len(examples) == 4
    for example in examples:
        body = "loss:" + example.split("\n\n")[0]
        values = copy.deepcopy(small_values) | yaml.safe_load(body.replace("\n    ", "\n"))
        assert isinstance(read_config(written(values)), TrainingConfig)
