"""The decision rule: activation, choice, components, and the segments that come of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from residency.card import Decision, Output
from residency.codes import Code
from residency.decide import activate, class_scores, clean, decide_scores, in_words, output_in_words, segments
from residency.errors import CardError, GeometryError, GraphError
from residency.labels import Side
from residency.testing.cards import example_card
from residency.volume import regular_grid

GRID = regular_grid((6, 12, 12), (2.0, 1.0, 1.0))
SCORES = arrays(np.float32, (3, 4, 5), elements=st.floats(-200, 200, width=32))


def decision(activation="softmax", rule="argmax", **more):
    return Decision(activation=activation, rule=rule, **more)


def output(rule=None, classes=2, **changes):
    made = example_card({f"outputs.0.{k}": v for k, v in changes.items()}).outputs[0]
    listed = [made.classes[0], *(made.classes[1].model_copy(update={"index": k}) for k in range(1, classes))]
    return made.model_copy(update={"decision": rule or decision(), "classes": tuple(listed)})


@given(SCORES)
def test_activations_are_those_of_the_definition(scores):
    """Even for scores that overflow a plain exponential."""
    exact = scores.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=0))
    np.testing.assert_allclose(activate(scores, decision("softmax")), powers / powers.sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(activate(scores, decision("sigmoid")), 1 / (1 + np.exp(-exact)), atol=1e-6)
    np.testing.assert_array_equal(activate(scores, decision("none")), scores)


@given(SCORES)
def test_the_largest_score_wins_whatever_the_activation(scores):
    for name in ("softmax", "sigmoid", "none"):
        np.testing.assert_array_equal(decide_scores(scores, decision(name)), scores.argmax(axis=0))


@given(SCORES, st.floats(0, 1))
def test_the_threshold_is_reached_by_the_activated_score(scores, threshold):
    rule = decision("sigmoid", "threshold", threshold=threshold)
    np.testing.assert_array_equal(decide_scores(scores, rule), activate(scores, rule) >= np.float32(threshold))


def test_more_classes_than_labels_are_refused():
    with pytest.raises(CardError, match="at most 256"):
        decide_scores(np.zeros((257, 2), np.float32), decision())


def specks():
    """Three components: 12 voxels (24 mm3), 4 voxels (8 mm3), 2 voxels touching by a corner only (4 mm3)."""
    mask = np.zeros(GRID.shape, bool)
    mask[0:3, 0:2, 0:2] = True
    mask[0, 6:8, 6:8] = True
    mask[4, 10, 10] = mask[5, 11, 11] = True
    return mask


@pytest.mark.parametrize(("smallest", "left"), [(0, 18), (4.0, 18), (4.1, 16), (8.0, 16), (8.1, 12), (24.1, 0)])
def test_components_below_the_smallest_volume_go(smallest, left):
    """In mm3, so that the rule means the same on thick and on thin slices; corners connect (26 neighbours)."""
    mask = specks()
    assert clean(mask, decision(smallest_component_mm3=smallest), GRID).sum() == left
    assert mask.sum() == 18


def test_only_the_largest_component_stays_where_the_card_says_so():
    np.testing.assert_array_equal(clean(specks(), decision(largest_only=True), GRID)[0:3, 0:2, 0:2], True)
    assert clean(specks(), decision(largest_only=True), GRID).sum() == 12
    assert clean(specks(), decision(largest_only=True, smallest_component_mm3=25.0), GRID).sum() == 0


def test_one_class_may_keep_its_largest_component_where_another_has_two():
    labels = np.where(specks(), 1, 0).astype(np.uint8)
    labels[2, 4, 4] = labels[2, 9, 9] = 2
    made = output(classes=3)
    alone = made.model_copy(
        update={
            "classes": (made.classes[0], made.classes[1].model_copy(update={"largest_only": True}), made.classes[2])
        }
    )
    assert [s.mask.sum() for s in segments(labels, made, GRID)] == [18, 2]
    assert [s.mask.sum() for s in segments(labels, alone, GRID)] == [12, 2]
    assert output_in_words(alone) == f"largest score; largest component only of {made.classes[1].name}"
    assert output_in_words(made) == "largest score"
    # A card that says nothing of it keeps its digest.
    assert "largest_only" not in made.classes[1].model_dump()


@pytest.mark.parametrize(
    ("kind", "rule", "number", "said"),
    [
        ("segmentation", decision(), 1, None),
        ("segmentation", decision("sigmoid", "threshold"), 0, None),
        ("segmentation", decision(), 0, "the background is what the other classes leave"),
        ("classification", decision(), 1, "a classification has no components"),
        ("map", decision(), 1, "a map has no components"),
    ],
)
def test_a_card_asks_for_the_largest_component_only_where_it_is_kept(kind, rule, number, said):
    made = example_card().outputs[0]
    coded = {"category": made.classes[1].category, "type": made.classes[1].type}
    classes = [one.model_copy(update=coded if rule.rule == "threshold" else {}) for one in made.classes]
    classes[number] = classes[number].model_copy(update={"largest_only": True})
    fields = {"name": "found", "tensor": "scores", "kind": kind, "classes": classes, "decision": rule}
    if said is None:
        assert Output(**fields).classes[number].largest_only
        return
    with pytest.raises(ValueError, match=said):
        Output(**fields)


def test_segments_carry_the_classes_codes_and_count_from_one():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1, 2:5, 2:5] = 1
    labels[3, 2:5, 2:5] = 3
    found = segments(labels, output(classes=4), GRID, side=Side.LEFT)
    assert [(s.number, s.mask.sum(), s.side) for s in found] == [(1, 9, Side.LEFT), (2, 9, Side.LEFT)]
    assert found[0].type == Code(scheme="SCT", value="5366008", meaning="Hippocampus")
    assert found[0].region == Code(scheme="SCT", value="12738006", meaning="Brain")
    assert found[0].label == "hippocampus"
    assert segments(labels, output(classes=4), GRID)[0].side is None
    assert [s.number for s in segments(labels, output(classes=4), GRID, first_number=7)] == [7, 8]


def test_classes_that_may_overlap_both_become_segments():
    rule = decision("sigmoid", "threshold")
    made = output(rule, classes=3)
    coded = made.model_copy(update={"classes": (made.classes[1].model_copy(update={"index": 0}), *made.classes[1:])})
    masks = np.zeros((3, *GRID.shape), bool)
    masks[0, 1:3], masks[2, 2:5] = True, True
    found = segments(masks, coded, GRID)
    assert [s.mask.sum() for s in found] == [288, 432]
    assert (found[0].mask & found[1].mask).any()


@pytest.mark.parametrize(
    "decided",
    [np.zeros((5, 12, 12), np.uint8), np.zeros(GRID.shape, bool), np.zeros((2, *GRID.shape), bool)],
    ids=["other grid", "masks for labels", "overlapping"],
)
def test_a_decision_on_another_grid_is_refused(decided):
    with pytest.raises(GeometryError, match="expected"):
        segments(decided, output(), GRID)


def test_class_probabilities_carry_codes():
    made = class_scores(np.array([0.25, 0.75], np.float32), output(kind="classification"))
    assert [(c.code.meaning, c.probability) for c in made] == [("Hippocampus", 0.75)]
    with pytest.raises(GraphError, match="lists 2 classes"):
        class_scores(np.zeros(3, np.float32), output(kind="classification"))


def test_the_rule_is_said_in_words():
    assert in_words(decision()) == "largest score"
    rule = decision("sigmoid", "threshold", threshold=0.4, smallest_component_mm3=50, largest_only=True)
    assert in_words(rule) == "sigmoid >= 0.4; components below 50 mm3 dropped; largest component only"
