"""Header-only studies: which model reads which series, or why none does."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from residency.codes import Code, parse_code
from residency.errors import SelectionError, UsageError
from residency.labels import Evidence, SeriesLabels, Side, Weighting
from residency.selection import (
    Candidate,
    CandidateTable,
    Outcome,
    OutcomeKind,
    Policy,
    RuleSet,
    Selection,
    select,
    shipped_rules,
)
from residency.standing import Approval, Grant, Scope
from residency.testing.studies import CT_IMAGE, example_candidate, example_series, region_fields, regions

CHOSEN, AMBIGUOUS, NONE = OutcomeKind.CHOSEN, OutcomeKind.AMBIGUOUS, OutcomeKind.NONE
UNTRUSTED, UNSUPPORTED = OutcomeKind.UNTRUSTED, OutcomeKind.UNSUPPORTED

HIPPOCROP = shipped_rules()[0]
APPROVED_RULES = RuleSet((HIPPOCROP,), {HIPPOCROP.digest: "A. Person"})
WAITING_RULES = RuleSet((HIPPOCROP,))

TUMOUR = parse_code("SCT:108369006").model_dump()
HAEMORRHAGE = parse_code("SCT:50960005").model_dump()

BRAIN = example_candidate("brain")
WARD = (Grant(Scope(ae_titles=("WARD",))),)
MR_ONLY = (Grant(Scope(modalities=("MR",))),)
CT_ONLY = (Grant(Scope(modalities=("CT",)), "Dr A", dt.datetime(2028, 1, 1, tzinfo=dt.UTC)),)
HEAD_BRAIN = example_candidate("brain-in-head", {"larger_region": True})
HIPPO = example_candidate(
    "hippocampus",
    {
        "regions": [region_fields("SCT:5366008")],
        "weightings": ["T1"],
        "field_of_view_mm": {"LR": {"least": 25, "most": 80}, "PA": {"least": 30, "most": 100}},
    },
)
CT: dict[str, Any] = {"modalities": ["CT"], "derived": "refused"}
LIVER = example_candidate("liver", {**CT, "regions": [region_fields("LIVER")], "larger_region": True})
ABDOMEN = example_candidate("abdomen", {**CT, "regions": [region_fields("ABDOMEN")]})
TRUNK = example_candidate(
    "trunk", {**CT, "regions": [region_fields("CHESTABDPELVIS")], "partial_cover": True, "spacing_mm": {}}
)
LUNGS = example_candidate("lungs", {"modalities": ["CR", "DX"], "regions": [region_fields("CHEST")]})
FOR_TUMOUR = example_candidate("t", {"diseases": [TUMOUR]})
FOR_HAEMORRHAGE = example_candidate("h", {"diseases": [HAEMORRHAGE]})
LEFT_HIP = example_candidate("left-hip", {**CT, "regions": [region_fields("HIP")], "side": "L"})


def crop(**changes: Any) -> SeriesLabels:
    """A hippocampus crop as its tool writes it: derived, no region, its name the only hint."""
    fields: dict[str, Any] = {
        "rows": 51,
        "columns": 35,
        "slices": 32,
        "image_type": ("DERIVED", "SECONDARY", "AXIAL"),
        "regions": None,
        "attributes": {"Modality": "MR", "SeriesDescription": "HippoCrop"},
    }
    return example_series(**{**fields, **changes})


def ct(*terms: str, **changes: Any) -> SeriesLabels:
    """A CT series of these regions."""
    fields: dict[str, Any] = {
        "modality": "CT",
        "sop_classes": (CT_IMAGE,),
        "regions": regions(*terms) if terms else None,
        "attributes": {"Modality": "CT", "SeriesDescription": "portal venous"},
    }
    return example_series(**{**fields, **changes})


@dataclass(frozen=True)
class Study:
    """One series, the models there are, and what must come out."""

    name: str
    series: SeriesLabels
    models: Sequence[Candidate]
    kind: OutcomeKind
    family: str | None = None
    reason: str = ""
    policy: Policy = field(default_factory=Policy)
    rules: RuleSet = WAITING_RULES


STUDIES = (
    # Region, in every coding that is met.
    Study("body part term", example_series(), [BRAIN, LIVER], CHOSEN, "brain", "exact region"),
    Study("present code", example_series(regions=regions("SCT:12738006")), [BRAIN], CHOSEN, "brain"),
    Study("legacy code", example_series(regions=regions("SRT:T-A0100")), [BRAIN], CHOSEN, "brain"),
    Study("older designator", example_series(regions=regions("SNM3:T-A0100")), [BRAIN], CHOSEN, "brain"),
    Study("abdomen, new code", ct("SCT:818981001"), [ABDOMEN], CHOSEN, "abdomen"),
    Study("abdomen, old code", ct("SCT:113345001"), [ABDOMEN], CHOSEN, "abdomen"),
    Study("abdomen, legacy code", ct("SRT:T-D4000"), [ABDOMEN], CHOSEN, "abdomen"),
    Study("organ in region", ct("ABDOMEN"), [LIVER], CHOSEN, "liver", "containing region, 1 step up"),
    Study("exact before containing", ct("ABDOMEN"), [LIVER, ABDOMEN], CHOSEN, "abdomen", "exact region"),
    Study("combined region", ct("CHESTABDPELVIS"), [LIVER], CHOSEN, "liver", "containing region, 2 steps up"),
    Study("regions one by one", ct("CHEST", "ABDOMEN", "PELVIS"), [TRUNK], CHOSEN, "trunk", "exact region"),
    Study("partial cover allowed", ct("CHEST"), [TRUNK], CHOSEN, "trunk"),
    Study("partial cover not allowed", ct("LIVER"), [ABDOMEN], NONE, None, "only a part of the model's region"),
    Study("head is not brain", example_series(regions=regions("HEAD")), [BRAIN], NONE, None, "contains the model's"),
    Study("head, card says so", example_series(regions=regions("HEAD")), [HEAD_BRAIN], CHOSEN, "brain-in-head"),
    Study("wrong region", example_series(regions=regions("KNEE")), [BRAIN], NONE, None, "Body Part Examined = KNEE"),
    Study("no region", example_series(regions=None), [BRAIN], NONE, None, "anatomic region missing"),
    Study("whole body", example_series(regions=regions("WHOLEBODY")), [HEAD_BRAIN], CHOSEN, "brain-in-head"),
    # Rules.
    Study("crop, rule waits", crop(), [HIPPO], NONE, None, "^anatomic region missing"),
    Study("crop, rule approved", crop(), [HIPPO], CHOSEN, "hippocampus", "exact region", rules=APPROVED_RULES),
    Study("crop of another name", crop(attributes={"Modality": "MR", "SeriesDescription": "hippocrop"}), [HIPPO], NONE,
          None, "anatomic region missing", rules=APPROVED_RULES),
    Study("rule against header", crop(regions=regions("KNEE")), [HIPPO], AMBIGUOUS, None,
          "Body Part Examined = KNEE contradicts rule hippocrop version 1", rules=APPROVED_RULES),
    Study("rule against weighting", crop(weighting=Evidence(Weighting.T2, "Acquisition Contrast = T2")), [HIPPO],
          AMBIGUOUS, None, "Acquisition Contrast = T2 contradicts rule", rules=APPROVED_RULES),
    Study("rule narrower than header", crop(regions=regions("BRAIN")), [HIPPO], NONE, None,
          "contains the model's", rules=APPROVED_RULES),
    Study("whole head called a crop", crop(rows=256, columns=256), [HIPPO], NONE, None,
          r"field of view along LR = 256 mm; needed: 25 to 80 mm", rules=APPROVED_RULES),
    # What is no input.
    Study("localiser", example_series(image_type=("ORIGINAL", "LOCALIZER")), [BRAIN], NONE, None, "LOCALIZER"),
    Study("projection", ct("ABDOMEN", image_type=("DERIVED", "PRIMARY", "MIP")), [LIVER], NONE, None, "MIP"),
    Study("own result", example_series(own_result=True), [BRAIN], NONE, None, "result or model object"),
    Study("segmentation of others", example_series(modality="SEG"), [BRAIN], NONE, None, "SEG object"),
    Study("secondary capture", example_series(sop_classes=("1.2.840.10008.5.1.4.1.1.7",)), [BRAIN], NONE, None,
          "SOP Class UID = Secondary Capture Image; needed: MR Image"),
    Study("missing slice", example_series(problem="slice 6 of 11 is missing"), [BRAIN], NONE, None, "slice 6 of 11"),
    Study("derived, refused", ct("LIVER", image_type=("DERIVED", "SECONDARY")), [LIVER], NONE, None, "original images"),
    Study("no Image Type", example_series(image_type=()), [BRAIN], NONE, None, "Image Type missing"),
    Study("radiograph without Image Type", example_series(modality="CR", sop_classes=("1.2.840.10008.5.1.4.1.1.1",),
          regions=regions("CHEST"), image_type=(), orientation=None), [LUNGS], CHOSEN, "lungs"),
    # Other gates.
    Study("other modality", ct("BRAIN"), [BRAIN], NONE, None, "Modality = CT; needed: MR"),
    Study("no modality", example_series(modality=""), [BRAIN], NONE, None, "Modality missing"),
    Study("weighting unknown", example_series(), [example_candidate("t1", {"weightings": ["T1"]})], NONE, None,
          "MR weighting missing; needed: T1"),
    Study("weighting wrong", example_series(weighting=Evidence(Weighting.FLAIR, "Acquisition Contrast = FLAIR")),
          [example_candidate("t1", {"weightings": ["T1"]})], NONE, None, "MR weighting = FLAIR; needed: T1"),
    Study("contrast unproven", ct("ABDOMEN"), [example_candidate("v", {**CT, "regions": [region_fields("ABDOMEN")],
          "contrast": "refused"})], NONE, None, "Contrast/Bolus Agent missing, which proves nothing"),
    Study("contrast given", ct("ABDOMEN", contrast=Evidence(True, "Contrast/Bolus Agent = X")), [example_candidate("v",
          {**CT, "regions": [region_fields("ABDOMEN")], "contrast": "required"})], CHOSEN, "v"),
    Study("other side", ct("HIP", side=Evidence(Side.RIGHT, "Laterality = R")), [LEFT_HIP], NONE, None,
          "laterality = R; needed: L"),
    Study("side not named", ct("HIP"), [LEFT_HIP], CHOSEN, "left-hip"),
    Study("spacing too wide", example_series(spacing_mm=(6.5, 0.4, 0.4)), [example_candidate("fine",
          {"spacing_mm": {"SI": {"most": 2}}})], NONE, None, r"spacing along SI = 6.5 mm; needed: at most 2 mm"),
    Study("spacing by anatomy", example_series(spacing_mm=(6.5, 0.4, 0.4), orientation="PSL"),
          [example_candidate("fine", {"spacing_mm": {"SI": {"most": 2}}})], CHOSEN, "fine"),
    Study("spacing unknown", example_series(spacing_mm=None), [example_candidate("fine", {"spacing_mm": {"SI":
          {"most": 2}}})], NONE, None, "spacing along SI missing"),
    Study("plane", example_series(orientation="LSP"), [example_candidate("axial", {"orientations": ["axial"]})], NONE,
          None, "plane of the slices = sagittal; needed: axial"),
    Study("too few slices", example_series(slices=5), [example_candidate("deep", {"slices": {"least": 16}})], NONE,
          None, r"number of slices = 5; needed: at least 16"),
    Study("age unknown", example_series(), [example_candidate("adult", {"age_years": {"least": 18}})], NONE, None,
          "Patient's Age missing"),
    Study("too young", example_series(patient_age_years=9), [example_candidate("adult", {"age_years": {"least": 18}})],
          NONE, None, "Patient's Age = 9 years"),
    Study("sex", example_series(patient_sex="M"), [example_candidate("f", {"sex": "F"})], NONE, None,
          "Patient's Sex = M; needed: F"),
    Study("colour", example_series(photometric="PALETTE COLOR"), [BRAIN], NONE, None, "PALETTE COLOR"),
    # Standing and licence.
    Study("untrusted key", example_series(), [example_candidate("x", publisher=None)], UNTRUSTED, None,
          "signed by nobody whom this site trusts"),
    Study("damaged", example_series(), [example_candidate("x", problem="part 2 differs from its digest")], UNTRUSTED,
          None, "part 2 differs", Policy(allow_unapproved=True)),
    Study("not approved", example_series(), [example_candidate("x", approval=Approval.NONE)], UNTRUSTED, None,
          "not approved; needed: approved here"),
    Study("not approved, allowed", example_series(), [example_candidate("x", approval=Approval.NONE)], CHOSEN, "x",
          "not approved", Policy(allow_unapproved=True)),
    Study("revoked", example_series(), [example_candidate("x", approval=Approval.REVOKED)], UNTRUSTED, None, "revoked",
          Policy(allow_unapproved=True)),
    Study("approved for something", example_series(), [example_candidate("x", grants=WARD)], UNTRUSTED, None,
          "approved for AE WARD; needed: approved here for modality MR, AE unknown"),
    Study("sent by whom it was approved for", example_series(), [example_candidate("x", grants=WARD)], CHOSEN, "x",
          "", Policy(ae_title="WARD")),
    Study("sent by another", example_series(), [example_candidate("x", grants=WARD)], UNTRUSTED, None,
          "approval of this site = approved for AE WARD; needed: approved here for modality MR, AE CT1",
          Policy(ae_title="CT1")),
    Study("approved for its modality", example_series(), [example_candidate("x", grants=MR_ONLY)],
          CHOSEN, "x"),
    Study("approved for another modality", example_series(), [example_candidate("x", grants=CT_ONLY)],
          UNTRUSTED, None, "approved for modality CT; needed: approved here for modality MR"),
    Study("another modality, so no option of the run helps", example_series(), [example_candidate("x",
          grants=CT_ONLY)], UNTRUSTED, None, "no approval is for modality MR"),
    Study("the approval ended", example_series(), [example_candidate("x", approval=Approval.NONE,
          expired=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))], UNTRUSTED, None, "an approval expired on 2026-01-31"),
    Study("purpose not stated", example_series(), [example_candidate("x", grants=(Grant(Scope(purpose="follow-up")),))],
          UNTRUSTED, None, "approved for purpose follow-up; needed: .*purpose not stated"),
    Study("either approval will do", example_series(), [example_candidate("x", grants=(*WARD,
          *MR_ONLY))], CHOSEN, "x"),
    Study("restricted beyond its approval", example_series(), [example_candidate("x", approval=Approval.RESTRICTED,
          limits=(Scope(modalities=("CT",)),))], UNTRUSTED, None, "restricted for everything; only modality CT"),
    Study("restricted to this", example_series(), [example_candidate("x", approval=Approval.RESTRICTED,
          limits=(Scope(modalities=("MR",)),))], CHOSEN, "x"),
    Study("golden case failed here", example_series(), [example_candidate("x", failed="Dice 0.5")], UNTRUSTED, None,
          "Dice 0.5"),
    Study("a statement cannot be read", example_series(), [example_candidate("x", unread=1)], CHOSEN, "x",
          "warning: of the statements beside it 1 cannot be read"),
    Study("superseded", example_series(), [example_candidate("f", sequence=1), example_candidate("f", sequence=2,
          superseded=True)], CHOSEN, "f", "sequence 1"),
    Study("superseded, but the only one approved for this", example_series(), [example_candidate("f", sequence=1,
          grants=CT_ONLY), example_candidate("f", sequence=2, superseded=True)], CHOSEN, "f",
          "sequence 2"),
    Study("superseded says nothing to other families", example_series(), [BRAIN, example_candidate("other",
          superseded=True)], AMBIGUOUS, None, "--model"),
    Study("research licence", example_series(), [example_candidate("x", {"licences.research_only": True})], UNTRUSTED,
          None, "research only"),
    Study("research licence, agreed", example_series(), [example_candidate("x", {"licences.research_only": True})],
          CHOSEN, "x", "", Policy(allow_research=True)),
    Study("no models", example_series(), [], NONE, None, "no model in the archive"),
    # Several fit.
    Study("approved first", example_series(), [BRAIN, example_candidate("a", approval=Approval.NONE)], CHOSEN, "brain",
          "", Policy(allow_unapproved=True)),
    Study("newest of its family", example_series(), [example_candidate("f", sequence=1), example_candidate("f",
          sequence=2)], CHOSEN, "f", "sequence 2"),
    Study("two families", example_series(), [BRAIN, example_candidate("other")], AMBIGUOUS, None, "--model"),
    Study("preferred by the site", example_series(), [BRAIN, example_candidate("other")], CHOSEN, "other", "",
          Policy(preferred=("other",))),
    Study("named by the user", example_series(), [BRAIN, example_candidate("other")], CHOSEN, "other", "",
          Policy(model="other")),
    Study("equal but for disease", example_series(), [FOR_TUMOUR, FOR_HAEMORRHAGE], AMBIGUOUS, None, "--for CODE"),
    Study("disease by the user", example_series(), [FOR_TUMOUR, FOR_HAEMORRHAGE], CHOSEN, "t",
          "is for Tumor", Policy(diseases=(Code(**TUMOUR),))),
    Study("disease by the order", example_series(reasons=Evidence((Code(**HAEMORRHAGE),), "Reason = 50960005")),
          [FOR_TUMOUR, FOR_HAEMORRHAGE], CHOSEN, "h", "Reason = 50960005"),
    Study("disease is no gate", example_series(), [FOR_TUMOUR], CHOSEN, "t", "contradicts",
          Policy(diseases=(Code(**HAEMORRHAGE),))),
)  # fmt: skip


def choose(
    series: Sequence[SeriesLabels],
    models: Sequence[Candidate],
    policy: Policy | None = None,
    rules: RuleSet = WAITING_RULES,
) -> Selection:
    table = CandidateTable.of(models)
    return select(series, table, rules=rules, policy=policy or Policy(), content=lambda _uid, _condition: None)


@pytest.mark.parametrize("study", STUDIES, ids=[study.name for study in STUDIES])
def test_a_study_finds_its_model_or_the_reason_why_not(study: Study) -> None:
    outcome = choose([study.series], study.models, study.policy, study.rules).outcomes[0]
    assert outcome.kind is study.kind, outcome.reasons
    assert (outcome.candidate.card.identity.family if outcome.candidate else None) == study.family
    assert re.search(study.reason, "\n".join(outcome.reasons)), outcome.reasons


def test_an_unapproved_rule_is_suggested_with_the_command_that_approves_it() -> None:
    reasons = choose([crop()], [HIPPO]).outcomes[0].reasons
    assert any("residency rules approve hippocrop --by NAME" in reason for reason in reasons)


def test_no_rule_is_suggested_for_results_of_ours() -> None:
    own = crop(own_result=True)
    (reason,) = choose([own], [HIPPO], rules=RuleSet()).outcomes[0].reasons
    assert "a result or model object of Residency" in reason


def test_the_nearest_model_is_named_once() -> None:
    reasons = choose([example_series(modality="CT", regions=None)], [HIPPO]).outcomes[0].reasons
    assert len(reasons) > 2
    assert "\n".join(reasons).count("nearest model") == 1


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"approval": Approval.NONE}, "--allow-unapproved"),
        ({"publisher": None}, "residency trust add"),
        ({"changes": {"licences.research_only": True}}, "allow_research"),
    ],
)
def test_a_model_that_fits_and_is_not_trusted_comes_with_what_to_do(changes: dict[str, Any], advice: str) -> None:
    outcome = choose([example_series()], [example_candidate("x", **changes)]).outcomes[0]
    assert outcome.kind is UNTRUSTED
    assert advice in outcome.reasons[-1]
    assert len(outcome.reasons) == 2


@pytest.mark.parametrize("approval", [Approval.SUSPENDED, Approval.REVOKED])
def test_no_option_is_advised_for_a_model_that_was_withdrawn(approval: Approval) -> None:
    """--allow-unapproved does not help there."""
    reasons = choose([example_series()], [example_candidate("x", approval=approval)]).outcomes[0].reasons
    assert not any("--allow" in reason for reason in reasons)


def test_where_the_modality_is_not_approved_no_option_of_the_run_is_advised() -> None:
    reasons = choose([example_series()], [example_candidate("x", grants=CT_ONLY)]).outcomes[0].reasons
    assert not any("--calling-ae" in reason or "--purpose" in reason for reason in reasons)


def test_a_damaged_model_comes_without_advice_to_trust_it() -> None:
    damaged = example_candidate("x", problem="part 2 differs from its digest")
    assert len(choose([example_series()], [damaged]).outcomes[0].reasons) == 1


def test_the_rule_that_supplied_a_label_is_named_in_the_table() -> None:
    selection = choose([crop()], [HIPPO], rules=APPROVED_RULES)
    row = selection.row("1.2.3.1", HIPPO.digest)
    assert "rule hippocrop version 1" in next(v.source for v in row.verdicts if v.gate == "region")
    assert selection.outcomes[0].rules == (HIPPOCROP.name,)


def test_a_chosen_model_carries_every_gate_it_passed() -> None:
    outcome = choose([example_series()], [BRAIN]).outcomes[0]
    assert outcome.inputs == {"image": "1.2.3.1"}
    assert {"modality", "region", "trust", "approval", "licence"} <= {verdict.gate for verdict in outcome.gates}


def test_a_model_that_is_asked_for_and_not_there_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'brain'"):
        choose([example_series()], [BRAIN], Policy(model="brian"))


@pytest.mark.parametrize("wanted", [BRAIN.digest, BRAIN.digest[:20], BRAIN.digest.removeprefix("sha256:")[:12]])
def test_a_model_is_asked_for_by_its_digest_as_lists_show_it(wanted: str) -> None:
    selection = choose([example_series()], [BRAIN, HEAD_BRAIN], Policy(model=wanted))
    assert selection.outcomes[0].candidate == BRAIN


def test_a_publisher_does_not_overtake_another_by_calling_its_family_alike() -> None:
    """A higher sequence number under a borrowed family name would silently replace the model in use."""
    other = example_candidate("brain", {"identity.publisher.id": "elsewhere.org"}, sequence=900)
    (outcome,) = choose([example_series()], [BRAIN, other]).outcomes
    assert outcome.kind is AMBIGUOUS
    assert {candidate.digest for candidate in outcome.contenders} == {BRAIN.digest, other.digest}
    chosen = choose([example_series()], [BRAIN, other], Policy(model=BRAIN.digest)).outcomes[0]
    assert chosen.candidate == BRAIN


def test_a_series_given_twice_is_refused() -> None:
    with pytest.raises(SelectionError, match="twice"):
        choose([example_series(), example_series()], [BRAIN])


class TestContent:
    SKULL = example_candidate("with-skull", {"content": [{"name": "skull_present", "value": True}]})
    BARE = example_candidate("without-skull", {"content": [{"name": "skull_present", "value": False}]})

    @pytest.mark.parametrize(("skull", "family"), [(True, "with-skull"), (False, "without-skull")])
    def test_pixels_decide_between_models_alike_in_headers(self, skull: bool, family: str) -> None:
        outcome = self.choose([self.SKULL, self.BARE], skull)[0]
        assert outcome.candidate is not None
        assert outcome.candidate.card.identity.family == family

    def test_what_cannot_be_measured_fits_neither(self) -> None:
        outcome = self.choose([self.SKULL], None)[0]
        assert outcome.kind is NONE
        assert "skull present cannot be told" in outcome.reasons[0]

    def test_pixels_are_looked_at_only_after_every_header_gate(self) -> None:
        asked: list[str] = []
        table = CandidateTable.of([self.SKULL])
        both = [example_series(), example_series("1.2.3.2", regions=regions("KNEE"))]
        select(both, table, rules=WAITING_RULES, policy=Policy(), content=lambda uid, _: bool(asked.append(uid)))
        assert asked == ["1.2.3.1"]

    def choose(self, models: list[Candidate], skull: bool | None) -> tuple[Outcome, ...]:
        def content(_uid: str, condition: Any) -> bool | None:
            return None if skull is None else skull == condition.value

        table = CandidateTable.of(models)
        return select([example_series()], table, rules=WAITING_RULES, policy=Policy(), content=content).outcomes


T1_INPUT: dict[str, Any] = {
    "name": "t1",
    "tensor": "t1",
    "modalities": ["MR"],
    "regions": [region_fields("BRAIN")],
    "recipe": {"steps": []},
    "weightings": ["T1"],
}
FLAIR_INPUT: dict[str, Any] = {**T1_INPUT, "name": "flair", "tensor": "flair", "weightings": ["FLAIR"]}


class TestSeveralInputs:
    """A network of T1 and FLAIR needs both, of one patient position, and says so when it has them not."""

    PAIR = example_candidate("pair", {"inputs": [T1_INPUT, FLAIR_INPUT]})

    def weighted(self, uid: str, weighting: Weighting, **changes: Any) -> SeriesLabels:
        return example_series(uid, weighting=Evidence(weighting, f"Acquisition Contrast = {weighting}"), **changes)

    def test_a_choice_is_an_assignment_of_series_to_inputs(self) -> None:
        series = [self.weighted("1.2.3.2", Weighting.FLAIR), self.weighted("1.2.3.1", Weighting.T1)]
        selection = choose(series, [self.PAIR])
        assert selection.outcome("1.2.3.1").kind is CHOSEN
        assert selection.outcome("1.2.3.1").inputs == {"t1": "1.2.3.1", "flair": "1.2.3.2"}
        assert "taken as input 'flair'" in selection.outcome("1.2.3.2").reasons[0]

    def test_without_a_shared_frame_of_reference_it_is_not_registered(self) -> None:
        series = [
            self.weighted("1.2.3.1", Weighting.T1),
            self.weighted("1.2.3.2", Weighting.FLAIR, frame_of_reference="9"),
        ]
        outcome = choose(series, [self.PAIR]).outcomes[0]
        assert outcome.kind is UNSUPPORTED
        assert "not registered" in outcome.reasons[0]

    def test_without_the_other_series_it_does_not_fit(self) -> None:
        outcome = choose([self.weighted("1.2.3.1", Weighting.T1)], [self.PAIR]).outcomes[0]
        assert outcome.kind is NONE
        assert "input 'flair'" in outcome.reasons[0]

    def test_two_series_for_one_input_are_never_picked_between(self) -> None:
        series = [self.weighted("1.2.3.1", Weighting.T1)]
        series += [self.weighted(f"1.2.3.{i}", Weighting.FLAIR) for i in (2, 3)]
        outcome = choose(series, [self.PAIR]).outcomes[0]
        assert outcome.kind is AMBIGUOUS
        assert "several series fit input 'flair'" in outcome.reasons[0]

    def test_a_card_of_many_inputs_alike_keeps_nobody_waiting(self) -> None:
        """Twelve inputs and eleven series have 11! arrangements, none whole; a hostile card must not try them all."""
        many = example_candidate("many", {"inputs": [{**T1_INPUT, "name": f"t{i}"} for i in range(12)]})
        series = [self.weighted(f"1.2.3.{i}", Weighting.T1) for i in range(1, 12)]
        outcome = choose(series, [many]).outcomes[0]
        assert outcome.kind is NONE
        assert "too few series" in outcome.reasons[0]
