"""What must hold for any study and models: no order, no bystander and no greater demand wins a model a study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from residency.card import Input
from residency.codes import Kind, parse_code
from residency.labels import Evidence, SeriesLabels, Side, Weighting
from residency.selection import (
    Candidate,
    CandidateTable,
    Outcome,
    OutcomeKind,
    Policy,
    RuleSet,
    Selection,
    Status,
    select,
    shipped_rules,
)
from residency.selection.header_gates import HEADER_GATES, header_verdicts, relation
from residency.standing import Approval
from residency.testing.studies import CT_IMAGE, MR_IMAGE, example_candidate, example_series, region_fields, regions

TERMS = ("BRAIN", "HEAD", "LIVER", "ABDOMEN", "CHESTABDPELVIS", "KNEE", "FEMORALA", "LFEMORALA")
DISEASES = ("SCT:108369006", "SCT:50960005")


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def any_series(draw: st.DrawFn, uid: str = "1.2.3.1") -> SeriesLabels:
    modality = draw(st.sampled_from(("MR", "MR", "CT", "SEG", "")))
    where = draw(maybe(st.lists(st.sampled_from(TERMS), min_size=1, max_size=2)))
    weighting = draw(maybe(st.sampled_from(Weighting)))
    side = draw(maybe(st.sampled_from(Side)))
    reasons = draw(maybe(st.sampled_from(DISEASES)))
    kinds = (("ORIGINAL", "PRIMARY"), ("ORIGINAL", "PRIMARY"), ("DERIVED",), ("ORIGINAL", "LOCALIZER"), ())
    return example_series(
        uid,
        modality=modality,
        sop_classes=(CT_IMAGE if modality == "CT" else MR_IMAGE,),
        rows=draw(maybe(st.integers(16, 512))),
        slices=draw(st.integers(1, 300)),
        spacing_mm=draw(maybe(st.tuples(*[st.floats(0.2, 8.0)] * 3))),
        orientation=draw(maybe(st.sampled_from(("SPL", "PSL", "RSP")))),
        image_type=draw(st.sampled_from(kinds)),
        photometric=draw(st.sampled_from((None, "MONOCHROME1", "MONOCHROME2", "MONOCHROME2", "RGB"))),
        regions=regions(*where) if where else None,
        weighting=Evidence(weighting, f"Acquisition Contrast = {weighting}") if weighting else None,
        side=Evidence(side, f"Laterality = {side}") if side else None,
        contrast=draw(maybe(st.just(Evidence(True, "Contrast/Bolus Agent = X")))),
        reasons=Evidence((parse_code(reasons),), "Reason") if reasons else None,
        patient_age_years=draw(maybe(st.floats(0, 100))),
        patient_sex=draw(maybe(st.sampled_from(("M", "F", "O")))),
    )


ranges = st.tuples(st.floats(0.2, 200.0), st.floats(0.2, 200.0)).map(lambda r: {"least": min(r), "most": max(r)})

demands: dict[str, st.SearchStrategy[Any]] = {
    "modalities": st.sampled_from((["MR"], ["CT"], ["MR", "CT"])),
    "regions": st.lists(st.sampled_from(TERMS), min_size=1, max_size=2).map(lambda ts: [region_fields(t) for t in ts]),
    "larger_region": st.booleans(),
    "partial_cover": st.booleans(),
    "side": st.sampled_from((None, "L", "R")),
    "weightings": st.sampled_from(([], ["T1"], ["T1", "T2"])),
    "contrast": st.sampled_from((None, "required", "refused")),
    "derived": st.sampled_from(("accepted", "refused")),
    "orientations": st.sampled_from(([], ["axial"], ["coronal", "sagittal"])),
    "spacing_mm": st.dictionaries(st.sampled_from(("LR", "PA", "SI")), ranges, max_size=2),
    "field_of_view_mm": st.dictionaries(st.sampled_from(("LR", "PA", "SI")), ranges, max_size=2),
    "rows": maybe(ranges),
    "slices": maybe(ranges),
    "age_years": maybe(ranges),
    "sex": st.sampled_from((None, "F")),
    "diseases": st.sampled_from(([], [DISEASES[0]], [DISEASES[1]])).map(
        lambda texts: [parse_code(text).model_dump() for text in texts]
    ),
}


@st.composite
def any_candidate(draw: st.DrawFn) -> Candidate:
    chosen = draw(st.lists(st.sampled_from(sorted(demands)), max_size=3, unique=True))
    return example_candidate(
        draw(st.sampled_from(("alpha", "beta", "gamma"))),
        {name: draw(demands[name]) for name in chosen},
        sequence=draw(st.integers(1, 3)),
        approval=draw(st.sampled_from((Approval.APPROVED, Approval.APPROVED, Approval.NONE))),
        publisher=draw(st.sampled_from(("Example", "Example", None))),
    )


policies = st.builds(
    Policy,
    allow_unapproved=st.booleans(),
    diseases=st.sampled_from(((), (parse_code(DISEASES[0]),))),
    preferred=st.sampled_from(((), ("beta",))),
)

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def choose(series: list[SeriesLabels], models: list[Candidate], policy: Policy | None = None) -> Selection:
    table = CandidateTable.of(models)
    return select(
        series, table, rules=RuleSet(shipped_rules()), policy=policy or Policy(), content=lambda _uid, _condition: None
    )


def winner(outcome: Outcome) -> tuple[OutcomeKind, str | None, frozenset[str]]:
    return (
        outcome.kind,
        outcome.candidate.digest if outcome.candidate else None,
        frozenset(c.digest for c in outcome.contenders),
    )


@many
@given(any_series(), st.lists(any_candidate(), min_size=1, max_size=6), policies, st.randoms(use_true_random=False))
def test_the_order_of_listing_is_irrelevant(
    series: SeriesLabels, models: list[Candidate], policy: Policy, random: Any
) -> None:
    shuffled = random.sample(models, len(models))
    first, second = choose([series], models, policy).outcomes[0], choose([series], shuffled, policy).outcomes[0]
    assert winner(first) == winner(second)
    assert first.reasons == second.reasons


@many
@given(any_series(), st.lists(any_candidate(), min_size=1, max_size=5), any_candidate(), policies)
def test_an_unrelated_model_never_changes_the_winner(
    series: SeriesLabels, models: list[Candidate], other: Candidate, policy: Policy
) -> None:
    """Publishing a knee model must not change what reads a brain."""
    alone = choose([series], [other], policy).outcomes[0]
    assume(alone.kind is OutcomeKind.NONE)
    before, after = choose([series], models, policy).outcomes[0], choose([series], [*models, other], policy).outcomes[0]
    assert winner(before) == winner(after)


@many
@given(any_series(), any_candidate(), st.sampled_from(sorted(set(demands) - {"diseases"})), st.data())
def test_a_card_that_asks_for_more_never_fits_more(
    series: SeriesLabels, model: Candidate, name: str, data: st.DataObject
) -> None:
    """Tightening one demand turns PASS into something else or leaves it; never the other way round."""
    loose = model.card.inputs[0]
    how = relation(series, frozenset(loose.regions))
    # A series that shows more than the model knows may be exactly what a model of one more region knows.
    assume(name != "regions" or how is None or how.kind is not Kind.CONTAINS)
    tight = _tightened(loose, name, data.draw(demands[name]))
    for before, after in zip(header_verdicts(series, loose), header_verdicts(series, tight), strict=True):
        assert after.status is not Status.PASS or before.status is Status.PASS


def _tightened(loose: Input, name: str, value: Any) -> Input:
    """The input with one more or a stricter demand of the same kind."""
    now = loose.model_dump()
    if name in ("larger_region", "partial_cover"):
        now[name] = now[name] and value
    elif name == "derived":
        now[name] = "refused"
    elif name in ("modalities", "weightings", "orientations"):
        common = [v for v in now[name] if v in value]
        now[name] = common or now[name] or value
    elif name == "regions":
        # Where a part is enough, one more region is one more way to fit, not one more demand.
        now[name] = now[name] if loose.partial_cover else [*now[name], *value]
    elif name in ("spacing_mm", "field_of_view_mm"):
        now[name] = {**value, **now[name]}
    elif now[name] is None:
        now[name] = value
    return Input.model_validate(now)


@many
@given(any_series(), st.lists(any_candidate(), min_size=1, max_size=6))
def test_compiled_gates_decide_as_the_gates_themselves(series: SeriesLabels, models: list[Candidate]) -> None:
    table = CandidateTable.of(models)
    statuses = table.header_status(series)
    for row, needs in enumerate(table.inputs):
        assert [v.status for v in header_verdicts(series, needs)] == statuses[:, row].tolist()


@many
@given(st.lists(any_series(), min_size=1, max_size=3), st.lists(any_candidate(), min_size=1, max_size=4), policies)
def test_every_gate_not_passed_says_what_it_looked_at_and_what_it_needs(
    series: list[SeriesLabels], models: list[Candidate], policy: Policy
) -> None:
    study = [replace(labels, series_uid=f"1.2.3.{i}") for i, labels in enumerate(series)]
    selection = choose(study, models, policy)
    for row in selection.table():
        for verdict in row.verdicts:
            assert verdict.attribute
            assert verdict.value
            assert verdict.rule
            assert verdict.source
        failing = row.first_failing
        assert (failing.gate if failing else None) == selection.first_failing(row.series_uid, row.candidate.digest)
    for outcome in selection.outcomes:
        assert all(outcome.reasons)
        assert outcome.reasons


def test_gate_names_are_not_used_twice() -> None:
    names = [gate.name for gate in HEADER_GATES]
    assert len(set(names)) == len(names)
