"""Inference over windows, blended and brought back, against the same done at once in plain numpy."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import CardError, EngineError, GeometryError, GraphError
from residency.infer import infer
from residency.prepare import prepare
from residency.recipe import recipe
from residency.testing.cards import example_card
from residency.testing.engine import convolution_graph, make_graph, scaling_graph, two_input_graph
from residency.tiles import windows
from residency.volume import Grid, Volume, regular_grid

MAP = {"outputs.0.kind": "map", "outputs.0.decision": {"activation": "none", "rule": "argmax"}}
THRESHOLD = {"outputs.0.decision": {"activation": "none", "rule": "threshold", "threshold": 0.5}}
OVERLAPPING = {
    "outputs.0.classes.0": {
        "index": 0,
        "name": "rest",
        "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical structure"},
        "type": {"scheme": "SCT", "value": "12738006", "meaning": "Brain"},
    }
}


@pytest.fixture(scope="module")
def engine():
    return OpenVino(threads=2)


@pytest.fixture(scope="module")
def scaling(engine):
    return engine.load(scaling_graph(), precision=Precision.F32)


def card(window, overlap=0.5, **changes):
    return example_card({"tiling.window": list(window), "tiling.overlap": overlap} | changes)


def blob(grid: Grid, centre, radii=(9.0, 6.0, 4.0)) -> Volume:
    """A smooth ellipsoid fixed in the patient: 1 in its middle, 0.5 at radii mm from the centre, 0 far away."""
    at = grid.to_lps(np.indices(grid.shape).reshape(3, -1).T) - np.asarray(centre)
    distance = np.linalg.norm(at / np.asarray(radii), axis=1)
    value = 1.0 / (1.0 + np.exp(8.0 * (distance - 1.0)))
    return Volume(value.reshape(grid.shape).astype(np.float32), grid)


def run(volume, network, made_card, steps=()):
    return infer({"image": prepare(volume, recipe(*steps))}, network, made_card)["segmentation"]


@pytest.mark.parametrize("window", [(40, 40, 40), (8, 8, 8), (16, 5, 9), (7, 30, 30), (30, 30, 6), (3, 4, 9)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_windows_leave_no_trace(scaling, window, overlap):
    """A network that looks at one voxel at a time gives the same map however the volume is cut; no seams."""
    volume = Volume(
        np.random.default_rng(4).random((21, 18, 24), np.float32), regular_grid((21, 18, 24), (1.0, 1.0, 1.0))
    )
    found = run(volume, scaling, card(window, overlap, **MAP))
    np.testing.assert_allclose(found[1], volume.array, atol=1e-5)
    np.testing.assert_allclose(found[0], 1 - volume.array, atol=1e-5)


def whole_volume_reference(volume, weight, window, overlap):
    """Windows cut, convolved with zero borders, weighted, summed and divided, all in double precision at once."""
    axes = windows(volume.grid.shape, window, overlap)
    total = np.zeros((len(weight), *volume.grid.shape))
    sums = np.zeros(volume.grid.shape)
    for starts in itertools.product(*(a.starts for a in axes)):
        parts = [a.inside(s) for a, s in zip(axes, starts, strict=True)]
        tile = np.zeros(window)
        tile[tuple(i for _, i in parts)] = volume.array[tuple(o for o, _ in parts)]
        view = np.lib.stride_tricks.sliding_window_view(np.pad(tile, 1), (3, 3, 3))
        scores = np.einsum("srcxyz,oxyz->osrc", view, weight[:, 0].astype(np.float64))
        factor = np.ones(())
        for k in range(3):
            g = np.exp(-0.5 * ((np.arange(window[k]) - (window[k] - 1) / 2) / (window[k] / 8)) ** 2)
            factor = np.multiply.outer(factor, g)
        where, inner = tuple(o for o, _ in parts), tuple(i for _, i in parts)
        total[(slice(None), *where)] += (scores * factor)[(slice(None), *inner)]
        sums[where] += factor[inner]
    return total / sums


@pytest.mark.parametrize("window", [(8, 12, 10), (16, 16, 16), (24, 9, 7), (10, 10, 40)])
def test_the_stream_equals_the_whole(engine, window):
    """Blending plane by plane must give what blending the whole volume gives, along whichever axis it runs."""
    weight = np.random.default_rng(9).normal(size=(2, 1, 3, 3, 3)).astype(np.float32)
    network = engine.load(convolution_graph(weight), precision=Precision.F32)
    volume = Volume(
        np.random.default_rng(8).normal(size=(17, 22, 19)).astype(np.float32), regular_grid((17, 22, 19), (1, 1, 1))
    )
    expected = whole_volume_reference(volume, weight, window, 0.5)
    np.testing.assert_allclose(run(volume, network, card(window, **MAP)), expected, atol=1e-4)
    labels = run(volume, network, card(window))
    clear = np.abs(expected[1] - expected[0]) > 1e-3
    np.testing.assert_array_equal(labels[clear], (expected[1] > expected[0])[clear])


def rotation(degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    turn[[i, i, j, j], [i, j, i, j]] = [c, -s, s, c]
    return turn


@st.composite
def stored(draw):
    """One volume of the patient stored twice: plainly, and with axes permuted, reversed; both equally oblique."""
    shape = (20, 24, 28)
    spacing = draw(st.sampled_from([(1.0, 1.0, 1.0), (1.6, 0.9, 0.9), (2.2, 1.0, 1.3)]))
    affine = np.eye(4)
    turn = rotation(draw(st.sampled_from([0.0, 7.0, -18.0])), 0) @ rotation(draw(st.sampled_from([0.0, 11.0])), 2)
    affine[:3, :3] = turn @ regular_grid(shape, spacing).affine[:3, :3]
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    axes = draw(st.permutations(range(3)))
    flips = [draw(st.booleans()) for _ in range(3)]
    return Grid(shape, affine), axes, flips


def restore(array, axes, flips):
    for k in range(3):
        if flips[k]:
            array = np.flip(array, axis=k)
    return array.transpose(np.argsort(axes))


def store_again(volume, axes, flips):
    index = np.zeros((4, 4))
    index[3, 3] = 1
    array = volume.array.transpose(axes)
    for k in range(3):
        old = axes[k]
        index[old, k] = -1 if flips[k] else 1
        index[old, 3] = volume.grid.shape[old] - 1 if flips[k] else 0
        if flips[k]:
            array = np.flip(array, axis=k)
    return Volume(np.ascontiguousarray(array), Grid(array.shape, volume.grid.affine @ index))


PLAIN = (("orient", {"letters": "SPL"}), ("resample", {"spacing_mm": 1.2}), ("pad", {"multiple": 8}))


@settings(max_examples=25, deadline=None)
@given(stored())
def test_the_same_patient_gets_the_same_mask_however_stored(case):
    """Given as axial, sagittal or flipped series, an organ keeps its place and its millilitres."""
    grid, axes, flips = case
    network = OpenVino(threads=1).load(scaling_graph(), precision=Precision.F32)
    volume = blob(grid, grid.to_lps((np.array(grid.shape) - 1) / 2 + (1, -2, 3)))
    again = store_again(volume, axes, flips)
    plain = run(volume, network, card((16, 16, 16), **THRESHOLD, **OVERLAPPING), PLAIN)[1]
    other = run(again, network, card((16, 16, 16), **THRESHOLD, **OVERLAPPING), PLAIN)[1]
    other = restore(other, axes, flips)
    # One voxel may sit on the threshold to the last digit.
    assert np.count_nonzero(plain ^ other) <= 1
    # The network's score at a voxel is the image itself: what is found is the ellipsoid, to interpolation.
    truth = volume.array >= 0.5
    assert 2 * np.count_nonzero(plain & truth) / (np.count_nonzero(plain) + np.count_nonzero(truth)) > 0.93
    assert np.abs(centre(plain, grid) - centre(truth, grid)).max() < 0.25


def centre(mask, grid):
    return grid.to_lps(np.argwhere(mask)).mean(axis=0)


@pytest.mark.parametrize("letters", ["SPL", "LAI", "PRS"])
def test_scores_come_back_to_the_place_they_belong(scaling, letters):
    """A ramp through the patient must come back as the same ramp: an offset of half a voxel would show everywhere."""
    grid = Grid((12, 15, 18), regular_grid((12, 15, 18), (3.0, 0.8, 0.8)).affine)
    at = grid.to_lps(np.indices(grid.shape).reshape(3, -1).T)
    volume = Volume((at @ [0.01, 0.02, 0.03]).reshape(grid.shape).astype(np.float32), grid)
    found = run(
        volume,
        scaling,
        card((16, 16, 16), **MAP),
        (("orient", {"letters": letters}), ("resample", {"spacing_mm": 1.0})),
    )
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(found[1][inner], volume.array[inner], atol=1e-4)


def test_what_was_cropped_away_is_background(scaling):
    volume = Volume(np.ones((12, 14, 16), np.float32), regular_grid((12, 14, 16), (1, 1, 1)))
    found = run(volume, scaling, card((8, 8, 8)), (("crop", {"box": (2, 3, 4, 10, 9, 16)}),))
    expected = np.zeros(volume.grid.shape, np.uint8)
    expected[2:10, 3:9, 4:16] = 1
    np.testing.assert_array_equal(found, expected)


def test_overlapping_classes_keep_both(scaling):
    volume = Volume(np.full((4, 4, 4), 0.5, np.float32), regular_grid((4, 4, 4), (1, 1, 1)))
    found = run(volume, scaling, card((4, 4, 4), **THRESHOLD, **OVERLAPPING))
    assert found.dtype == np.bool_
    assert found.all()


def test_memory_follows_the_window_not_the_volume(scaling):
    """A whole-body scan must not need more memory for its scores than a short one."""
    peaks = []
    for slices in (96, 384):
        shape = (slices, 48, 48)
        prepared = prepare(Volume(np.zeros(shape, np.float32), regular_grid(shape, (1, 1, 1))), recipe())
        tracemalloc.start()
        labels = infer({"image": prepared}, scaling, card((32, 32, 32)))["segmentation"]
        peaks.append(tracemalloc.get_traced_memory()[1] - labels.nbytes)
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1
    scores_of_the_whole = 2 * 384 * 48 * 48 * 4
    assert peaks[1] < scores_of_the_whole / 2


def test_two_inputs_are_wired_by_name(engine):
    network = engine.load(two_input_graph(), precision=Precision.F32)
    base = card((8, 8, 8)).model_dump(mode="json")
    changes = {
        "inputs": [
            base["inputs"][0] | {"name": "t1", "tensor": "a"},
            base["inputs"][0] | {"name": "t2", "tensor": "b"},
        ],
        "outputs": [
            base["outputs"][0]
            | {
                "name": n,
                "tensor": n,
                "kind": "map",
                "classes": [base["outputs"][0]["classes"][0]],
                "decision": MAP["outputs.0.decision"],
            }
            for n in ("sum", "product")
        ],
    }
    grid = regular_grid((9, 10, 11), (1, 1, 1))
    a, b = (Volume(np.random.default_rng(k).random(grid.shape, np.float32), grid) for k in (1, 2))
    both = {"t2": prepare(b, recipe()), "t1": prepare(a, recipe())}
    found = infer(both, network, card((8, 8, 8), **changes))
    np.testing.assert_allclose(found["sum"][0], a.array + 2 * b.array, atol=1e-5)
    np.testing.assert_allclose(found["product"][0], a.array * b.array, atol=1e-5)
    moved = Volume(b.array, regular_grid(grid.shape, (1, 1, 1.1)))
    with pytest.raises(GeometryError, match="register the series"):
        infer(both | {"t2": prepare(moved, recipe())}, network, card((8, 8, 8), **changes))


def test_inputs_of_one_tensor_become_its_channels(engine):
    weight = np.zeros((2, 2, 3, 3, 3), np.float32)
    weight[0, 0, 1, 1, 1], weight[1, 1, 1, 1, 1] = 1.0, 10.0
    network = engine.load(convolution_graph(weight), precision=Precision.F32)
    base = card((8, 8, 8)).model_dump(mode="json")["inputs"][0]
    made = card((8, 8, 8), **MAP, inputs=[base | {"name": "t1"}, base | {"name": "flair"}])
    grid = regular_grid((5, 6, 7), (1, 1, 1))
    one, two = Volume(np.full(grid.shape, 1, np.float32), grid), Volume(np.full(grid.shape, 2, np.float32), grid)
    found = infer({"flair": prepare(two, recipe()), "t1": prepare(one, recipe())}, network, made)["segmentation"]
    np.testing.assert_allclose(found[0], 1.0, atol=1e-6)
    np.testing.assert_allclose(found[1], 20.0, atol=1e-5)


def pooling_graph():
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Neg", ["mean"], ["minus"]),
        helper.make_node("Concat", ["minus", "mean"], ["scores"], axis=1),
    ]
    return make_graph(nodes, {"image": ["n", 1, "s", "r", "c"]}, {"scores": ["n", 2]}, {})


def test_a_classification_gives_probabilities(engine):
    network = engine.load(pooling_graph(), precision=Precision.F32)
    volume = Volume(np.full((4, 8, 8), 0.7, np.float32), regular_grid((4, 8, 8), (1, 1, 1)))
    for window in ((4, 8, 8), (4, 4, 8)):
        found = run(volume, network, card(window, **{"outputs.0.kind": "classification"}))
        np.testing.assert_allclose(found, [1 / (1 + np.exp(1.4)), 1 / (1 + np.exp(-1.4))], rtol=1e-5)


def test_progress_counts_to_the_end_and_can_stop(scaling):
    """A cancelled job leaves the engine ready for the next."""
    volume = Volume(np.zeros((16, 16, 16), np.float32), regular_grid((16, 16, 16), (1, 1, 1)))
    prepared = {"image": prepare(volume, recipe())}
    seen = []
    infer(prepared, scaling, card((8, 8, 8)), lambda done, total: seen.append((done, total)))
    assert seen == [(k, 27) for k in range(1, 28)]

    class CancelledError(Exception):
        pass

    class Counted:
        """The real network, counting what is in it."""

        inputs, outputs, precision, inside = scaling.inputs, scaling.outputs, scaling.precision, 0

        def submit(self, tensors):
            self.inside += 1
            return scaling.submit(tensors)

        def collect(self, ticket):
            self.inside -= 1
            return scaling.collect(ticket)

    def stop(done, total):
        if done == 5:
            raise CancelledError

    counted = Counted()
    with pytest.raises(CancelledError):
        infer(prepared, counted, card((8, 8, 8)), stop)
    assert counted.inside == 0
    assert not infer(prepared, scaling, card((8, 8, 8)))["segmentation"].any()


def overflow_graph():
    from onnx import helper

    nodes = [
        helper.make_node("Exp", ["image"], ["big"]),
        helper.make_node("Concat", ["big", "image"], ["scores"], axis=1),
    ]
    shape = ["n", 1, "s", "r", "c"]
    return make_graph(nodes, {"image": shape}, {"scores": ["n", 2, *shape[2:]]}, {})


def test_scores_that_are_no_numbers_are_refused(engine):
    """Infinity wins every argmax."""
    network = engine.load(overflow_graph(), precision=Precision.F32)
    volume = Volume(np.full((4, 4, 4), 1000.0, np.float32), regular_grid((4, 4, 4), (1, 1, 1)))
    with pytest.raises(EngineError, match="NaN or infinity"):
        run(volume, network, card((4, 4, 4)))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"inputs.0.tensor": "images"}, "feeds the tensors"),
        ({"outputs.0.tensor": "score"}, "reads the tensors"),
        ({"inputs.0.name": "other"}, "prepared are"),
        ({"outputs.0.classes": [{"index": 0, "name": "background"}]}, "lists 1 classes"),
        ({"outputs.0.kind": "classification"}, "one score a class"),
    ],
)
def test_a_card_of_another_graph_is_refused(scaling, changes, match):
    volume = Volume(np.zeros((4, 4, 4), np.float32), regular_grid((4, 4, 4), (1, 1, 1)))
    with pytest.raises(GraphError, match=match):
        run(volume, scaling, card((4, 4, 4), **changes))


@pytest.mark.parametrize(
    ("window", "overlap", "match"),
    [((513, 512, 512), 0.5, "too large"), ((10**9, 1, 1), 0.0, "too large"), ((1, 1, 1), 0.9, "at most 100000")],
)
def test_a_card_cannot_fill_the_memory_or_run_for_days(scaling, window, overlap, match):
    volume = Volume(np.zeros((64, 64, 64), np.float32), regular_grid((64, 64, 64), (1, 1, 1)))
    with pytest.raises(CardError, match=match):
        run(volume, scaling, card(window, overlap))


def test_scores_of_another_size_are_refused(engine):
    from onnx import helper

    pool = helper.make_node("AveragePool", ["image"], ["half"], kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    both = helper.make_node("Concat", ["half", "half"], ["scores"], axis=1)
    shape = ["n", 1, "s", "r", "c"]
    graph = make_graph([pool, both], {"image": shape}, {"scores": ["n", 2, "a", "b", "d"]}, {})
    network = engine.load(graph, precision=Precision.F32)
    volume = Volume(np.zeros((8, 8, 8), np.float32), regular_grid((8, 8, 8), (1, 1, 1)))
    with pytest.raises(GraphError, match="one score a voxel"):
        run(volume, network, card((8, 8, 8)))
