"""Every preparation step, by the common contract and by what it alone does."""

from __future__ import annotations

import numpy as np
import pytest

from residency.errors import ConfigError, GeometryError, PixelError
from residency.prepare import STEPS, check_recipe, faults_of, labels_on, prepare
from residency.prepare.clip import Clip
from residency.prepare.crop import Crop
from residency.prepare.normalise import Normalise
from residency.prepare.orient import Orient
from residency.prepare.pad import Pad
from residency.prepare.resample import Resample
from residency.prepare.resize import Resize
from residency.prepare.scale import Scale
from residency.prepare.window import Window
from residency.recipe import recipe
from residency.testing.steps import StepContract, oblique_grid, ramp
from residency.volume import Grid, Space, Volume, regular_grid

HIPPOCAMPUS = recipe(
    ("orient", {"letters": "SPL"}),
    ("resample", {"spacing_mm": 1.0}),
    ("clip", {"percentiles": (0.5, 99.5)}),
    ("normalise", {"method": "z-score", "over": "all"}),
    ("pad", {"multiple": 8}),
)


class TestOrient(StepContract):
    @pytest.fixture(params=["SPL", "IAR", "LSP", "PRI"])
    def step(self, request):
        return Orient(letters=request.param)

    def test_axes_point_as_named(self, step, volume):
        assert step.apply(volume).grid.orientation == step.letters


class TestResample(StepContract):
    @pytest.fixture(params=[1.0, (0.7, 0.0, 3.1), (5.0, 4.0, 2.5), 0.45])
    def step(self, request):
        return Resample(spacing_mm=request.param)

    def test_spacing_is_the_demanded_one(self, step, volume):
        wanted = step.spacing_mm if isinstance(step.spacing_mm, tuple) else (step.spacing_mm,) * 3
        for have, want, was in zip(step.apply(volume).grid.spacing_mm, wanted, volume.grid.spacing_mm, strict=True):
            assert have == pytest.approx(want or was)

    def test_a_flipped_series_gives_the_flipped_result(self, step, volume):
        """Left and right hippocampus are resampled alike."""
        flipped = Volume(np.ascontiguousarray(volume.array[::-1, ::-1, ::-1]), volume.grid)
        np.testing.assert_allclose(
            step.apply(flipped).array, step.apply(volume).array[::-1, ::-1, ::-1], rtol=1e-4, atol=1e-4
        )


class TestResize(StepContract):
    @pytest.fixture(params=[(28, 0, 9), (7, 19, 64)])
    def step(self, request):
        return Resize(shape=request.param)

    def test_shape_is_the_demanded_one(self, step, volume):
        assert step.apply(volume).grid.shape == tuple(w or n for w, n in zip(step.shape, (14, 19, 23), strict=True))


class TestWindow(StepContract):
    @pytest.fixture
    def step(self):
        return Window(centre=40.0, width=20.0)

    def test_the_window_ends_become_zero_and_one(self, step):
        grid = regular_grid((1, 1, 5), (1, 1, 1))
        made = step.apply(Volume(np.array([[[-1000, 30, 40, 50, 900]]], np.float32), grid))
        assert made.array.ravel().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


class TestClip(StepContract):
    @pytest.fixture(params=[{"values": (-20, 15.5)}, {"percentiles": (0.5, 99.5)}])
    def step(self, request):
        return Clip(**request.param)

    def test_percentiles_are_those_of_numpy(self, volume):
        made = Clip(percentiles=(5, 90)).apply(volume)
        assert made.array.min() == np.float32(np.percentile(volume.array, 5))
        assert made.array.max() == np.float32(np.percentile(volume.array, 90))


class TestScale(StepContract):
    @pytest.fixture
    def step(self):
        return Scale(shift=-20.0, scale=40.0)

    def test_the_same_value_means_the_same_in_every_image(self, step):
        grid = regular_grid((1, 1, 3), (1, 1, 1))
        for values in ([-20.0, 20.0, 60.0], [20.0, 20.0, 20.0]):
            made = step.apply(Volume(np.array([[values]], np.float32), grid))
            assert made.array.ravel().tolist() == [(value + 20.0) / 40.0 for value in values]


class TestNormalise(StepContract):
    @pytest.fixture(
        params=[(m, o) for m in ("z-score", "min-max", "percentile") for o in ("all", "foreground")], ids=str
    )
    def step(self, request):
        return Normalise(method=request.param[0], over=request.param[1])

    def test_mean_and_deviation_are_those_of_numpy(self, volume):
        """Also for a large mean with a small deviation, which single precision cannot tell from none."""
        array = (1e5 + np.random.default_rng(3).normal(size=(40, 200, 200))).astype(np.float32)
        made = Normalise().apply(Volume(array, regular_grid(array.shape, (1, 1, 1)))).array
        exact = array.astype(np.float64)
        np.testing.assert_allclose(made, (exact - exact.mean()) / exact.std(), atol=1e-6)

    def test_the_intensity_scale_of_the_scanner_does_not_matter(self, step, volume):
        """Three intensity regimes in one data set must look alike to the network."""
        scaled = volume.with_array(volume.array * 750.0 + 12.0)
        np.testing.assert_allclose(step.apply(scaled).array, step.apply(volume).array, atol=1e-3)

    def test_a_blank_image_is_refused(self, step, volume):
        """A network that is shown nothing may well find an organ in it."""
        with pytest.raises(PixelError, match="no contrast"):
            step.apply(volume.with_array(np.full(volume.array.shape, 7.3, np.float32)))


def test_what_is_no_foreground_becomes_zero_where_asked():
    grid = regular_grid((1, 1, 4), (1, 1, 1))
    step = Normalise(over="foreground", above=0.0, outside="zero")
    made = step.apply(Volume(np.array([[[0, 10, 30, -5]]], np.float32), grid))
    assert made.array.ravel().tolist() == [0.0, -1.0, 1.0, 0.0]


class TestCropToForeground(StepContract):
    crops = True

    @pytest.fixture(params=[0, 2])
    def step(self, request):
        return Crop(foreground=True, margin=request.param, above=10.0)

    def test_all_foreground_stays(self, step):
        array = np.zeros((9, 10, 11), np.float32)
        array[3:5, 4:9, 2] = 20.0
        made = step.apply(Volume(array, regular_grid(array.shape, (1, 2, 3))))
        assert made.array.sum() == array.sum()
        assert made.grid.shape == ((2, 5, 1) if step.margin == 0 else (6, 8, 5))

    def test_an_image_without_foreground_stays_whole(self, step):
        array = np.zeros((9, 10, 11), np.float32)
        assert step.apply(Volume(array, regular_grid(array.shape, (1, 2, 3)))).grid.shape == array.shape


class TestCropToBox(StepContract):
    crops = True

    @pytest.fixture(params=[{"box": (1, 2, 3, 9, 12, 20)}, {"shape": (8, 0, 99)}, {"square": True}])
    def step(self, request):
        return Crop(**request.param)

    def test_a_square_is_the_middle_of_every_slice(self):
        image = np.arange(2 * 5 * 8, dtype=np.float32).reshape(2, 5, 8)
        made = Crop(square=True).apply(Volume(image, regular_grid(image.shape, (1, 2, 3))))
        assert np.array_equal(made.array, image[:, :, 1:6])


class TestPad(StepContract):
    @pytest.fixture(params=["constant", "minimum", "edge", "reflect"])
    def step(self, request):
        return Pad(multiple=(8, 1, 16), mode=request.param)

    def test_shape_is_a_multiple_and_the_image_lies_in_the_middle(self, step, volume):
        made = step.apply(volume)
        assert made.grid.shape == (16, 19, 32)
        np.testing.assert_array_equal(made.array[1:15, :, 4:27], volume.array)


def test_every_registered_step_has_its_contract():
    """A step without the contract is a step that nobody has seen tracking its grid."""
    tried = {"orient": TestOrient, "resample": TestResample, "resize": TestResize, "window": TestWindow}
    tried |= {"clip": TestClip, "scale": TestScale}
    tried |= {"normalise": TestNormalise, "crop": TestCropToBox, "pad": TestPad}
    assert tried.keys() == STEPS.keys()


def test_thick_slices_are_averaged_not_skipped():
    """Every second slice bright: taking the nearest would give all or nothing."""
    array = np.zeros((40, 3, 3), np.float32)
    array[::2] = 100.0
    made = Resample(spacing_mm=(4.0, 0, 0)).apply(Volume(array, regular_grid(array.shape, (1, 1, 1))))
    np.testing.assert_allclose(made.array, 50.0, atol=4.0)


def test_spacing_within_tolerance_leaves_the_voxels_alone():
    volume = ramp(regular_grid((5, 6, 7), (1.004, 0.998, 1.0)), (1, 0, 0))
    assert Resample(spacing_mm=1.0).apply(volume) is volume


def test_a_radiograph_keeps_its_single_slice():
    """One slice has no neighbour to interpolate with, and a 2D network takes exactly one."""
    affine = np.diag([1.0, 0.14, 0.14, 1.0])[[2, 1, 0, 3]][:, [0, 1, 2, 3]]
    grid = Grid((1, 300, 250), affine, space=Space.DETECTOR)
    volume = Volume(np.random.default_rng(1).random(grid.shape, np.float32), grid)
    made = prepare(volume, recipe(("resample", {"spacing_mm": 0.5}), ("normalise", {}), ("pad", {"multiple": 32})))
    assert made.volume.grid.shape == (1, 96, 96)
    assert made.volume.grid.space is Space.DETECTOR


@pytest.mark.parametrize(
    ("step", "space", "match"),
    [
        (("orient", {"letters": "SPL"}), Space.DETECTOR, "place in the patient"),
        (("resample", {"spacing_mm": 1.0}), Space.PIXELS, "no pixel spacing"),
        (("crop", {"box": (0, 0, 0, 1, 99, 1)}), Space.PATIENT, "leaves the grid"),
        (("resample", {"spacing_mm": 0.0005}), Space.PATIENT, "at most 4096"),
        (("resize", {"shape": (4096, 4096, 4096)}), Space.PATIENT, "1073741824 in all"),
    ],
)
def test_what_does_not_fit_the_image_is_refused(step, space, match):
    grid = Grid((3, 4, 5), regular_grid((3, 4, 5), (1, 1, 1)).affine, space=space)
    with pytest.raises(GeometryError, match=match):
        prepare(Volume(np.zeros((3, 4, 5), np.float32), grid), recipe(step))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    """One NaN spreads through a z-score over the whole image, and the network answers anyway."""
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = bad
    with pytest.raises(PixelError, match="1 voxels are not finite"):
        prepare(Volume(array, regular_grid(array.shape, (1, 1, 1))), HIPPOCAMPUS)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (("normalize", {}), r"step 1 \('normalize'\) is unknown, did you mean 'normalise'"),
        (("unheard", {}), "known: orient"),
        (("normalise", {"methd": "z-score"}), "unknown parameter 'methd', did you mean 'method'"),
        (("normalise", {"method": "zscore"}), "method: "),
        (("orient", {"letters": "SPP"}), "SPP"),
        (("orient", {}), "letters: missing; it must be given"),
        (("clip", {}), "either values or percentiles"),
        (("clip", {"percentiles": (99.5, 0.5)}), "not below"),
        (("clip", {"percentiles": (0.5, 101)}), "0..100"),
        (("pad", {"multiple": 0}), "multiple: "),
        (("pad", {"multiple": 8, "mode": "edge", "value": 1.0}), "mode: constant"),
        (("resample", {"spacing_mm": -1.0}), "spacing_mm: a number of at least 0 is expected, got -1"),
        (
            ("resample", {"spacing_mm": (1, 1)}),
            r"spacing_mm: a list of three numbers \(slice, row, column\), or one for all, is expected, got \[1, 1\]",
        ),
        (("resample", {"spacing_mm": (1, 1, 1, 1)}), r"a list of three numbers .* got \[1, 1, 1, 1\]"),
        (("resample", {"spacing_mm": (1, -1, 1)}), "spacing_mm: a number of at least 0 is expected, got -1"),
        (("clip", {"percentiles": (1, 50, 99)}), "percentiles: a list of two numbers is expected, got"),
        (("resize", {"shape": (10**9, 1, 1)}), "shape: "),
        (("crop", {}), "give one of"),
        (("crop", {"foreground": True, "shape": (8, 8, 8)}), "give one of"),
        (("crop", {"square": True, "box": (0, 0, 0, 1, 1, 1)}), "give one of"),
        (("window", {"centre": 40, "width": 0}), "width: "),
    ],
)
def test_a_recipe_is_checked_before_any_image(step, match):
    with pytest.raises(ConfigError, match=match):
        check_recipe(recipe(step))


def test_every_fault_of_a_recipe_is_told():
    made = recipe(
        ("orient", {"letters": "SPP"}),
        "normalise",
        ("resampel", {"spacing_mm": 1.0}),
        ("resample", {"spacing": 1.0, "grid": "round", "tolerance": 9}),
    )
    faults = faults_of(made)
    assert [fault.partition(": ")[0] for fault in faults] == [
        "the recipe's step 1 ('orient')",
        "the recipe's step 3 ('resampel') is unknown, did you mean 'resample'?",
        *3 * ["the recipe's step 4 ('resample')"],
    ]
    assert "unknown parameter 'spacing', did you mean 'spacing_mm'?" in faults[2]
    assert "grid: " in "".join(faults[3:])
    assert "tolerance: " in "".join(faults[3:])
    with pytest.raises(ConfigError, match=r"step 1 \('orient'\).* \(and 4 more\)$"):
        check_recipe(made)


def test_reference_labels_follow_the_image():
    """Training pairs image and reference on the prepared grid; half a voxel between them caps the Dice for good."""
    grid = oblique_grid()
    labels = (np.arange(np.prod(grid.shape)) % 251).astype(np.uint8).reshape(grid.shape)
    target = prepare(
        Volume(labels.astype(np.float32), grid), recipe(("orient", {"letters": "LIP"}), ("pad", {"multiple": 8}))
    )
    np.testing.assert_array_equal(labels_on(labels, grid, target.volume.grid), target.volume.array)
    np.testing.assert_array_equal(
        labels_on(labels_on(labels, grid, target.volume.grid), target.volume.grid, grid), labels
    )
