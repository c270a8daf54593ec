"""What a result is called: everything that makes it another result gives it other UIDs."""

from __future__ import annotations

import numpy as np

from residency.dicom.series import SourceSeries, open_series
from residency.models import KnownModel
from residency.pipeline.result import Run, identity_of
from residency.selection import Outcome, OutcomeKind
from residency.standing import Standing
from residency.testing.cards import example_card
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid


def series(name: str) -> SourceSeries:
    grid = regular_grid((3, 4, 5), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
    return open_series(mr_series(Volume(np.zeros(grid.shape, np.float32), grid), series=name))


def run_on(sources: dict[str, SourceSeries]) -> Run:
    first = next(iter(sources.values()))
    inputs = {name: source.labels.series_uid for name, source in sources.items()}
    choice = Outcome(
        first.labels.series_uid, OutcomeKind.CHOSEN, first.labels, ("it fits",), inputs=inputs, rules=("a rule",)
    )
    model = KnownModel("2.25.1", "2.25.2", "2.25.3", None, None, None, Standing("sha256:" + "0" * 64, "somebody"))
    return Run(choice, model, example_card(), "an engine", "f32")


def test_two_series_exchanged_between_the_inputs_are_another_result() -> None:
    """Each of two series that fit both inputs gets a result of its own; with one name for both, the second would be
    taken for computed before, and be shown the findings on the first.
    """
    one, other = series("one"), series("other")
    straight, crossed = {"first": one, "second": other}, {"first": other, "second": one}
    uids = [identity_of(run_on(sources), sources).uid("seg") for sources in (straight, crossed)]
    assert uids[0] != uids[1]
    assert identity_of(run_on(straight), dict(straight)).uid("seg") == uids[0]
