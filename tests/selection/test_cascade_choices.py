"""A model with a step before: which gates a whole head is asked, which model makes the crop, and who stands first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.cli.table import explanation
from residency.codes import parse_code
from residency.labels import SeriesLabels
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
)
from residency.selection.explain import outcome_data
from residency.standing import Approval
from residency.testing.studies import example_candidate, example_series, region_fields, regions

CHOSEN, AMBIGUOUS, NONE, UNTRUSTED = (
    OutcomeKind.CHOSEN,
    OutcomeKind.AMBIGUOUS,
    OutcomeKind.NONE,
    OutcomeKind.UNTRUSTED,
)
HIPPOCAMPUS, BRAIN = parse_code("SCT:5366008").model_dump(), region_fields("BRAIN")
ANATOMY = parse_code("SCT:123037004").model_dump()
ONE_MM = {axis: {"least": 0.5, "most": 1.5} for axis in ("LR", "PA", "SI")}
BACKGROUND = {"index": 0, "name": "background"}
FINDS = [
    BACKGROUND,
    {"index": 1, "name": "brain", "category": ANATOMY, "type": BRAIN},
    {"index": 2, "name": "hippocampus", "category": ANATOMY, "type": HIPPOCAMPUS},
]
BEFORE = {"family": "localiser", "output": "regions", "margin_mm": 8, "paired": True}


def localiser(changes: dict[str, Any] | None = None, **standing: Any) -> Candidate:
    fields = {"outputs.0.name": "regions", "outputs.0.classes": FINDS, "spacing_mm": ONE_MM, "larger_region": True}
    return example_candidate("localiser", fields | (changes or {}), **standing)


def parts(changes: dict[str, Any] | None = None, family: str = "parts", **standing: Any) -> Candidate:
    fields = {
        "regions": [HIPPOCAMPUS],
        "spacing_mm": ONE_MM,
        "field_of_view_mm": {"LR": {"least": 25, "most": 70}, "SI": {"least": 20, "most": 70}},
        "rows": {"least": 20, "most": 140},
        "step_before": BEFORE,
    }
    return example_candidate(family, fields | (changes or {}), **standing)


def choose(series: SeriesLabels, models: Sequence[Candidate], **policy: Any) -> Selection:
    table = CandidateTable.of(models)
    return select([series], table, rules=RuleSet(()), policy=Policy(**policy), content=lambda _uid, _condition: None)


def outcome(series: SeriesLabels, models: Sequence[Candidate], **policy: Any) -> Outcome:
    return choose(series, models, **policy).outcomes[0]


def family(found: Outcome | None) -> str | None:
    return found.candidate.card.identity.family if found and found.candidate else None


HEAD = example_series()
CROP = example_series(
    rows=50, columns=40, slices=36, regions=regions("SCT:5366008"), image_type=("DERIVED", "SECONDARY", "AXIAL")
)


def test_a_whole_head_is_read_by_both_and_both_are_explained():
    selection = choose(HEAD, [localiser(), parts()])
    found = selection.outcomes[0]
    assert (found.kind, family(found), family(found.before)) == (CHOSEN, "parts", "localiser")
    assert found.before.inputs == found.inputs
    gates = {gate.gate: gate for gate in found.gates}
    assert gates["step before"].status is Status.PASS
    assert "Hippocampus (SCT:5366008) as 'regions'" in gates["step before"].rule
    assert gates["field of view LR"].rule == "at least 25 mm"
    assert gates["rows"].rule == "at least 20"
    assert {gate.gate for gate in found.before.gates} >= {"modality", "spacing SI", "trust", "approval"}
    text = "\n".join(explanation(selection, HEAD.series_uid))
    assert text.count("gates of localiser 1.0.0") == 1
    assert text.count("gates of parts 1.0.0") == 1
    assert "the step before" in text
    data = outcome_data(found)
    assert (data["model"], data["before"]["model"]) == ("parts", "localiser")
    assert data["before"]["gates"]


def test_a_crop_is_read_without_a_step_before():
    for models in ([parts()], [parts(), localiser()]):
        found = outcome(CROP, models)
        assert (found.kind, family(found), found.before) == (CHOSEN, "parts", None)
        assert "step before" not in {gate.gate for gate in found.gates}


@pytest.mark.parametrize("term", ["HEAD", "INTRACRANIAL", "HEADNECK"])
def test_a_region_around_fits_since_the_crop_shows_what_is_needed(term):
    assert family(outcome(example_series(regions=regions(term)), [localiser(), parts()])) == "parts"


@pytest.mark.parametrize(
    ("series", "models", "kind", "said"),
    [
        (HEAD, [parts()], NONE, "no model of family 'localiser' is in the archive"),
        (HEAD, [parts(), localiser({"sex": "F"})], NONE, "localiser 1.0.0"),
        (HEAD, [parts(), localiser(publisher=None)], UNTRUSTED, "signed by nobody whom this site trusts"),
        (HEAD, [parts(), localiser(approval=Approval.NONE)], UNTRUSTED, "--allow-unapproved"),
        (HEAD, [parts(), localiser({"outputs.0.name": "other"})], CHOSEN, ""),
        # Thick slices fit neither.
        (example_series(spacing_mm=(6.5, 1.0, 1.0)), [parts(), localiser()], NONE, "along SI = 6.5 mm"),
        # A crop cannot be larger than its series.
        (example_series(slices=10), [parts(), localiser({"spacing_mm": {}})], CHOSEN, ""),
        (example_series(regions=regions("KNEE")), [parts(), localiser()], NONE, "nothing in common"),
        (example_series(regions=None), [parts(), localiser()], NONE, "anatomic region missing"),
    ],
)
def test_what_is_missing_is_named(series, models, kind, said):
    found = outcome(series, models)
    assert found.kind is kind
    assert said in " ".join(found.reasons)
    assert found.before is None


def test_the_step_is_named_with_what_it_misses():
    models = [parts(), localiser({"sex": "F"}), localiser({"age_years": {"least": 18}}, sequence=2)]
    found = outcome(HEAD, models, model="parts")
    assert found.kind is NONE
    assert found.reasons[0].startswith("step before = localiser")
    assert "does not fit: Patient's" in found.reasons[0]
    row = choose(HEAD, models).row(HEAD.series_uid, models[0].digest)
    assert row.first_failing.gate == "step before"


def test_a_step_without_the_needed_class_or_without_a_second_one_is_named():
    for changes, said in (
        ({"outputs.0.name": "other"}, "has no segmentation 'regions' with a class of the type Hippocampus"),
        ({"outputs.0.classes": FINDS[:2]}, "has no segmentation 'regions' with a class of the type Hippocampus"),
        ({"outputs.0.classes": [BACKGROUND, FINDS[2] | {"index": 1}]}, "outlines nothing else by which sides"),
    ):
        found = outcome(HEAD, [parts(), localiser(changes)], model="parts")
        assert found.kind is NONE
        assert said in found.reasons[0]


def test_two_publishers_of_one_family_decide_nothing():
    other = localiser({"identity.publisher": {"id": "other.org", "name": "Other"}})
    found = outcome(HEAD, [parts(), localiser(), other], model="parts")
    assert found.kind is NONE
    assert "fit equally well, and nothing decides between them" in found.reasons[0]


def test_the_newest_approved_version_makes_the_crop():
    old, new, unapproved = localiser(), localiser(sequence=2), localiser(sequence=3, approval=Approval.NONE)
    models = [parts(), old, new, unapproved]
    assert outcome(HEAD, models).before.candidate is new
    assert outcome(HEAD, models, allow_unapproved=True).before.candidate is new


def test_the_step_is_a_part_of_the_cascade_and_no_rival():
    models = [localiser(), parts()]
    found = outcome(HEAD, models)
    assert (found.kind, family(found)) == (CHOSEN, "parts")
    assert not any("also fits" in reason for reason in found.reasons)
    for policy in ({"model": "localiser"}, {"preferred": ("localiser",)}):
        alone = outcome(HEAD, models, **policy)
        assert (alone.kind, family(alone), alone.before) == (CHOSEN, "localiser", None)


def test_who_may_not_be_used_leaves_the_step_for_itself():
    found = outcome(HEAD, [localiser(), parts(approval=Approval.NONE)])
    assert (found.kind, family(found), found.before) == (CHOSEN, "localiser", None)
    both = outcome(HEAD, [localiser(), parts(approval=Approval.NONE)], allow_unapproved=True)
    assert (both.kind, family(both)) == (CHOSEN, "localiser")


def test_where_the_step_runs_for_itself_it_is_told_why_nothing_takes_its_crops():
    """Plain MR images name no weighting: a person who expects volumes must see what a rule of the site could do."""
    plain = example_series(weighting=None, attributes={"Modality": "MR", "SeriesDescription": "T1 MPRAGE"})
    t1 = {"weightings": ["T1"]}
    found = outcome(plain, [localiser(), parts(t1), parts(t1 | {"identity.version": "1.0.1"}, sequence=2)])
    assert (found.kind, family(found)) == (CHOSEN, "localiser")
    (told,) = [reason for reason in found.reasons if "takes crops of what localiser 1.0.0" in reason]
    assert "parts 1.0.1" in told
    assert "MR weighting missing; needed: T1" in told
    (rule,) = [reason for reason in found.reasons if "label rule" in reason]
    assert "Modality = MR and SeriesDescription = T1 MPRAGE, give the weighting" in rule
    refused = outcome(HEAD, [localiser(), parts(approval=Approval.NONE)])
    assert any("parts 1.0.0" in reason and "approval" in reason for reason in refused.reasons)
    assert not any(
        "takes crops" in reason for reason in outcome(plain, [localiser(), parts(t1)], model="localiser").reasons
    )


def test_another_family_for_the_head_is_a_rival_of_the_cascade():
    models = [localiser(), parts(), example_candidate("lesions")]
    found = outcome(HEAD, models)
    assert found.kind is AMBIGUOUS
    assert {c.card.identity.family for c in found.contenders} == {"parts", "lesions"}
    decided = outcome(HEAD, models, model="parts")
    assert (family(decided), family(decided.before)) == ("parts", "localiser")
    assert outcome(HEAD, [localiser(), parts(), parts(family="other")]).kind is AMBIGUOUS


def test_what_a_crop_does_not_change_is_asked_of_the_series():
    for changes in ({"weightings": ["T1"]}, {"derived": "refused"}, {"age_years": {"least": 18}}):
        derived = replace(HEAD, image_type=("DERIVED", "SECONDARY"))
        found = outcome(derived, [localiser(), parts(changes)])
        assert family(found) == "localiser"
    assert family(outcome(HEAD, [localiser(), parts({"derived": "refused"})])) == "parts"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda f, approved, sequence: example_candidate(
                f, sequence=sequence, approval=Approval.APPROVED if approved else Approval.NONE
            ),
            st.sampled_from(("alpha", "beta")),
            st.booleans(),
            st.integers(1, 3),
        ),
        max_size=3,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(((), ("alpha",), ("parts",), ("localiser",))),
)
def test_a_cascade_never_changes_which_other_family_wins(others, first, second, unapproved, preferred):
    """Publishing a model that is given crops leaves every choice as it was, or puts itself in the place of its step."""
    states = {True: Approval.APPROVED, False: Approval.NONE}
    before = localiser(approval=states[first])
    after = parts(approval=states[second])
    policy = {"allow_unapproved": unapproved, "preferred": preferred}
    without = outcome(HEAD, [before, *others], **policy)
    selection = choose(HEAD, [before, after, *others], **policy)
    found = selection.outcomes[0]
    rivals = {c.card.identity.family for c in without.contenders} | {family(without)}
    now = {c.card.identity.family for c in found.contenders} | {family(found)}
    if preferred != ("parts",):
        assert found.kind is without.kind
        assert {"localiser" if name == "parts" else name for name in now} == rivals
    if family(found) == "parts":
        assert found.before.candidate is before
    for row in selection.table():
        failing = row.first_failing
        assert (failing.gate if failing else None) == selection.first_failing(row.series_uid, row.candidate.digest)
