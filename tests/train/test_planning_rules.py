"""The rules of planning: nnU-Net's where they are followed, and what holds of any plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.datasets.fingerprint import CaseFacts, Fingerprint, Intensities, Structure
from residency.errors import UsageError
from residency.nets import build
from residency.nets.cost import macs
from residency.train.planning import learning
from residency.train.planning.cost import ASSUMED, Setting, step_seconds, training_bytes, work_of
from residency.train.planning.fit import LEAST_STEPS, fitted
from residency.train.planning.recipe import order_of, recipe_of, spacing_of
from residency.train.planning.topology import first_patch, smaller_patch, stages_of, target_spacing
from residency.train.planning.values import Limits
from residency.volume import Space

ENOUGH = Limits(memory_gib=64, latency_seconds=1000, hours=1000, threads=2)


def _set(
    shape: Sequence[int] = (36, 50, 35),
    spacing: Sequence[float] = (1, 1, 1),
    *,
    cases: int = 20,
    modality: str | None = "MR",
    names: Sequence[str] = ("background", "front", "back"),
    middles: Sequence[Sequence[float]] = ((0.5, 0.3, 0.5), (0.5, 0.7, 0.5)),
    **more: Any,
) -> Fingerprint:
    whole: Any = tuple(shape)
    step: Any = tuple(spacing)
    made: dict[int, Any] = {0: Structure(math.prod(shape), (0.5, 0.5, 0.5), 0, 1)}
    made |= {k: Structure(500, (m[0], m[1], m[2]), 5, 1) for k, m in enumerate(middles, 1)}
    one = CaseFacts("c", "p", whole, step, whole, "SPL", made, None, True)
    scale = Intensities(-1000, -57, 40, 35, 22, 180, 3000)
    found = Fingerprint(
        task="segmentation",
        space=Space.PATIENT,
        classes=tuple(names),
        values=tuple(range(len(names))),
        modalities={"image": modality},
        cases=tuple(replace(one, name=f"c{k}", person=f"p{k}") for k in range(cases)),
        within={"image": scale},
        overall={"image": scale},
    )
    return replace(found, **more)


def _pictures(cases: int = 40, side: int = 28, rare: int = 10) -> Fingerprint:
    found = _set((1, side, side), space=Space.PIXELS, modality=None, names=("ill", "well"), cases=cases)
    labelled = tuple(
        replace(case, label="ill" if k < rare else "well", orientation="", structures={})
        for k, case in enumerate(found.cases)
    )
    return replace(found, task="classification", values=(), cases=labelled)


# Spacing, patch and stages are those of nnU-Net's published rules.


def test_the_hippocampus_set_gets_the_topology_that_nnunet_plans() -> None:
    shape, spacing = (36, 50, 35), (1.0, 1.0, 1.0)
    stages = stages_of(first_patch(spacing, shape), spacing)
    assert stages.patch == (40, 56, 40)
    assert stages.divisors == (8, 8, 8)
    assert stages.alike == 4


def test_thick_slices_are_halved_later_and_their_kernels_are_flat_until_then() -> None:
    stages = stages_of((20, 320, 256), (3.6, 0.625, 0.625))
    assert stages.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert stages.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert stages.alike == 0


def test_the_kernel_at_the_bottom_has_depth_however_thick_slices_are() -> None:
    stages = stages_of((8, 32, 32), (10.0, 0.5, 0.5))
    assert stages.kernels == ((1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert stages_of((1, 32, 32), (1.0, 1.0, 1.0)).kernels[-1] == (1, 3, 3)


def test_a_coarse_axis_with_few_slices_takes_the_tenth_percentile() -> None:
    spacings = [(5.0, 0.8, 0.8)] * 8 + [(3.0, 0.8, 0.8)] * 2
    thick = target_spacing(spacings, [(40, 512, 512)] * 10)
    assert thick == (3.0, 0.8, 0.8)
    assert target_spacing(spacings, [(400, 512, 512)] * 10) == (5.0, 0.8, 0.8)  # as many slices as pixels
    assert target_spacing([(1.0, 1.0, 1.0), (1.2, 1.0, 1.0), (2.0, 1.0, 1.0)], [(99, 99, 99)] * 3)[0] == 1.2


_SPACING = st.tuples(*[st.floats(0.3, 6.0)] * 3)
_SHAPE = st.tuples(*[st.integers(8, 400)] * 3)


@settings(max_examples=40, deadline=None)
@given(spacing=_SPACING, shape=_SHAPE)
def test_a_patch_covers_no_more_than_the_image_and_divides_without_a_rest(
    spacing: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    first = first_patch(spacing, shape)
    stages = stages_of(first, spacing)
    assert all(side <= extent for side, extent in zip(first, shape, strict=True))
    assert math.prod(first) <= 256**3 * 1.01
    for side, wanted, by in zip(stages.patch, first, stages.divisors, strict=True):
        assert side % by == 0
        assert 0 <= side - wanted < by
        assert by == 1 or side // by >= 4


@settings(max_examples=40, deadline=None)
@given(spacing=_SPACING, shape=_SHAPE)
def test_making_a_patch_smaller_ends_and_always_makes_it_smaller(
    spacing: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    stages = stages_of([max(8, side) for side in first_patch(spacing, shape)], spacing)
    for _ in range(1000):
        smaller = smaller_patch(stages, shape, spacing)
        if smaller is None:
            return
        assert math.prod(smaller.patch) < math.prod(stages.patch)
        stages = smaller
    raise AssertionError("never ends")


# A net that fits.


def _fit(found: Fingerprint, limits: Limits = ENOUGH) -> Any:
    spacing = spacing_of(found)
    return fitted(found, spacing, order_of(found, spacing), limits, ASSUMED)


@settings(max_examples=6, deadline=None)
@given(
    memory=st.floats(0.6, 4),
    latency=st.floats(0.3, 20),
    hours=st.floats(0.1, 10),
    thick=st.sampled_from([1.0, 4.0]),
    side=st.sampled_from([24, 60]),
)
def test_every_fitted_net_keeps_the_limits_and_can_be_built(
    memory: float, latency: float, hours: float, thick: float, side: int
) -> None:
    limits = Limits(memory, latency, hours, 2)
    found = _set((round(side / thick), side, side), (thick, 1, 1))
    try:
        fit = _fit(found, limits)
    except UsageError:
        return
    assert fit.memory <= memory * 2**30
    assert fit.answer <= latency
    net = build(fit.net, channels=1, classes=3, **fit.parameters)
    assert all(p % m == 0 and p >= least for p, m, least in zip(fit.patch, net.multiples, net.leasts, strict=True))


def test_the_work_of_a_patch_is_what_is_counted_on_that_patch() -> None:
    settings = {"features": (8, 16, 32)}
    counted = macs(build("unet", channels=1, classes=3, **settings), (16, 24, 8))
    assert work_of("unet", settings, 1, 3, (16, 24, 8)).macs == counted
    assert work_of("unet-16", {"filters": 4}, 1, 2, (1, 48, 64)).together


def test_less_of_anything_never_gives_a_larger_net() -> None:
    found = _set((120, 160, 160))
    wide = _fit(found)
    assert wide.parameters["features"][0] == 32
    for limits in (
        replace(ENOUGH, memory_gib=3),
        replace(ENOUGH, latency_seconds=30),
        replace(ENOUGH, hours=2),
    ):
        tight = _fit(found, limits)
        assert tight.work.macs < wide.work.macs
        assert tight.tried


def test_images_are_made_coarser_only_where_the_smallest_net_is_too_slow() -> None:
    found = _set((200, 200, 200))
    assert _fit(found, replace(ENOUGH, hours=0.01)).coarser == 1  # time of training is for a person to give
    assert _fit(found, replace(ENOUGH, latency_seconds=5)).coarser > 1


def test_a_batch_is_made_smaller_before_the_net_where_memory_is_short() -> None:
    many = replace(ENOUGH, threads=8, memory_gib=64)
    wide = _fit(_set(), many)
    assert wide.batch == 8
    tight = _fit(_set(), replace(many, memory_gib=0.75 * wide.memory / 2**30))
    assert tight.parameters == wide.parameters
    assert 2 <= tight.batch < 8


def test_threads_without_a_crop_do_not_make_a_step_shorter() -> None:
    work = work_of("unet", {"features": (8, 16, 32)}, 1, 3, (16, 24, 8))
    three, sixteen = (step_seconds(work, batch, 16, ASSUMED) for batch in (3, 16))
    assert three == sixteen
    assert step_seconds(work, 17, 16, ASSUMED) == 2 * sixteen


def test_each_image_of_a_case_takes_its_memory() -> None:
    work = work_of("unet", {"features": (8, 16, 32)}, 1, 3, (16, 24, 8))
    one, four = (training_bytes(work, Setting((16, 24, 8), channels, 3, 2, 2, 10**9, 10**6)) for channels in (1, 4))
    assert four - one > 12 * 10**9


def test_limits_that_no_net_keeps_are_refused_with_what_is_needed() -> None:
    with pytest.raises(UsageError, match=r"no net keeps within the limits: .* --memory is 0\.1.*give it more"):
        _fit(_set(), replace(ENOUGH, memory_gib=0.1))


def test_thick_slices_get_a_net_that_follows_them() -> None:
    found = _set((24, 200, 200), (5, 0.9, 0.9))
    fit = _fit(found, replace(ENOUGH, hours=20))
    assert fit.net == "planned-unet"
    assert fit.parameters["kernels"][:3] == (1, 3, 3)
    few = _fit(_set((20, 200, 200), (5, 0.9, 0.9)), replace(ENOUGH, hours=20))
    assert few.patch[0] == 20  # rows are halved more often than slices, which have a multiple of their own
    assert few.patch[1] % 16 == 0


def test_even_voxels_get_a_plain_net_though_one_axis_ends_before_the_others() -> None:
    fit = _fit(_set((48, 200, 200)), replace(ENOUGH, hours=20))
    assert fit.net == "unet"
    assert len(fit.parameters["features"]) == 4


def test_pictures_are_seen_whole() -> None:
    fit = _fit(_pictures())
    assert (fit.net, fit.patch, fit.parameters["stem"]) == ("resnet18", (1, 28, 28), "small")
    flat = _set((1, 500, 600), space=Space.PIXELS)
    fit = _fit(flat, replace(ENOUGH, hours=3))
    assert fit.net == "unet-16"
    assert fit.patch[0] == 1
    assert fit.patch[1] % 16 == 0


# The recipe.


def _steps(found: Fingerprint) -> dict[str, Any]:
    spacing = spacing_of(found)
    order = order_of(found, spacing)
    return {step.key: step.value for step in recipe_of(found, spacing, order, _fit(found))}


def test_ct_is_scaled_by_numbers_of_the_set_and_mr_image_by_image() -> None:
    steps = _steps(_set(modality="CT"))
    assert steps["clip"] == {"values": [-57, 180]}
    assert steps["scale"] == {"shift": 35, "scale": 22}
    steps = _steps(_set())
    assert steps["clip"] == {"percentiles": [0.5, 99.5]}
    assert steps["normalise"] == {"method": "z-score", "over": "all"}


def test_several_images_are_prepared_alike_and_by_their_common_scale_only_where_all_are_ct() -> None:
    one = Intensities(-1000, -57, 40, 35, 22, 180, 3000)
    pair = {"native": one, "venous": replace(one, high=300, mean=65)}
    found = _set(modality="CT")
    both = replace(found, modalities=dict.fromkeys(pair, "CT"), within=pair, overall=pair)
    steps = _steps(both)
    assert steps["clip"] == {"values": [-57, 300]}
    assert steps["scale"] == {"shift": 50, "scale": 26.6271}
    mixed = replace(both, modalities={"native": "CT", "venous": "PT"})
    assert _steps(mixed)["clip"] == {"percentiles": [0.5, 99.5]}


def test_mostly_empty_images_are_scaled_by_what_is_in_them() -> None:
    found = _set()
    found = replace(found, cases=tuple(replace(case, inside=(20, 30, 30)) for case in found.cases))
    assert _steps(found)["normalise"] == {"method": "z-score", "over": "foreground", "outside": "zero"}


@pytest.mark.parametrize(
    ("spacing", "letters", "wanted"),
    [((1, 1, 1), "SPL", 1.0), ((1, 1, 5), "LSP", [5.0, 1.0, 1.0]), ((1, 5, 1), "PSL", [5.0, 1.0, 1.0])],
)
def test_thick_slices_come_first(spacing: Sequence[float], letters: str, wanted: Any) -> None:
    steps = _steps(_set((60, 60, 60), spacing))
    assert steps["orient"] == {"letters": letters}
    assert steps["resample"] == {"spacing_mm": wanted}


def test_pictures_have_no_orientation_and_one_size() -> None:
    steps = _steps(_pictures())
    assert "orient" not in steps
    assert steps["resize"] == {"shape": [0, 28, 28]}


# Learning.


def _mirrored(found: Fingerprint) -> Any:
    spacing = spacing_of(found)
    choices, warnings = learning.augment_of(found, order_of(found, spacing), _fit(found))
    return {choice.key: choice.value for choice in choices}.get("augment.mirror_axis"), " ".join(warnings)


def test_mirroring_is_left_out_where_classes_have_sides() -> None:
    axis, told = _mirrored(_set())
    assert axis == 2
    assert "left becomes right" in told
    axis, told = _mirrored(_set(names=("background", "Left lung", "right lung")))
    assert axis is None
    assert "'Left lung' has a side" in told
    axis, told = _mirrored(_set(middles=((0.5, 0.5, 0.25), (0.5, 0.5, 0.75))))
    assert axis is None
    assert "may be left and right" in told
    assert _mirrored(_set(names=("background", "clear", "bright")))[0] == 2  # no side in these words
    assert _mirrored(_set(names=("background", "vertebra L1", "vertebra_L2")))[0] == 2
    assert _mirrored(_set(names=("background", "kidney_L", "kidney_R")))[0] is None


def test_the_axis_that_is_mirrored_is_that_of_the_prepared_image() -> None:
    assert _mirrored(_set((60, 60, 60), (1, 1, 5)))[0] == 0


@pytest.mark.parametrize("hours", [0.01, 2, 10_000])
def test_steps_follow_the_time_up_to_what_is_known_to_help(hours: float) -> None:
    found, limits = _set(), replace(ENOUGH, hours=hours)
    fit = _fit(found, limits)
    told = {choice.key: choice for choice in learning.schedule_of(found, fit, limits, ASSUMED)}
    steps = told["schedule.steps"].value
    assert steps >= 20
    assert steps * fit.batch <= 500_000
    assert hours == 0.01 or steps >= LEAST_STEPS
    assert hours == 10_000 or steps * fit.step <= max(hours * 3600, 20 * fit.step)
    assert 1 <= told["schedule.validate_every"].value <= steps
    assert ("known to help" in told["schedule.steps"].why) == (hours == 10_000)


def test_rare_classes_and_small_structures_are_shown_more_often() -> None:
    assert [c.key for c in learning.sampling_of(_pictures(), _fit(_pictures()))] == ["sampling.balanced"]
    assert learning.sampling_of(_pictures(rare=20), _fit(_pictures())) == []
    whole = _set()
    assert learning.sampling_of(whole, _fit(whole)) == []  # a crop shows the whole image
    large = _set((300, 300, 300))
    assert learning.sampling_of(large, _fit(large))[0].value == 0.5


@settings(max_examples=40, deadline=None)
@given(persons=st.integers(2, 500))
def test_some_persons_are_held_out_and_most_are_not(persons: int) -> None:
    share = learning.validation_share(_set(cases=persons)).value
    assert 0 < share < 1
    assert 1 <= round(share * persons) <= 21
    assert persons < 4 or round(share * persons) <= persons / 2
