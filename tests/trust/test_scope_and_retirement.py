"""How far an approval goes, what the golden case's outcome comes to, and what a key says after it was replaced."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from residency.errors import ConfigError, SignatureError, UntrustedKeyError, UsageError
from residency.models import Admission
from residency.site import Site, one_line
from residency.standing import Approval, Scope, Standing, Use
from residency.trust import (
    Kind,
    Retirement,
    Role,
    RunsOn,
    Signature,
    SignedStatement,
    SigningKey,
    Statement,
    TrustedKey,
    TrustStore,
    hear,
    judge,
    sign_statement,
    verify,
)

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DIGEST = "sha256:" + "1" * 64
OLD, NEW, APPROVER, SITE = (SigningKey.new() for _ in range(4))
MR, CT = Scope(modalities=("MR",)), Scope(modalities=("CT",))
HERE = RunsOn("OpenVINO 1 CPU", "f32", "FP32/avx2")


def trusted(key: SigningKey, *roles: Role, retired: Retirement | None = None, name: str = "") -> TrustedKey:
    return TrustedKey(key.public, frozenset(roles), name or key.key_id[7:15], NOW, retired)


TRUST = TrustStore((trusted(APPROVER, Role.APPROVER, name="Dr A"), trusted(SITE, Role.SITE)))


def said(
    kind: Kind, key: SigningKey = APPROVER, role: Role = Role.APPROVER, *, ago: int = 1, **more: Any
) -> SignedStatement:
    statement = Statement(kind=kind, subject=DIGEST, issuer=key.key_id, role=role, issued=NOW - ago * HOUR, **more)
    return sign_statement(statement, key)


def folded(*statements: SignedStatement, trust: TrustStore = TRUST, **more: Any) -> Standing:
    return judge(Standing(DIGEST, "P"), statements, trust, now=NOW, **more)


values = st.none() | st.sampled_from(["MR", "CT", "A", "B"])
uses = st.builds(Use, modality=values, ae_title=values, purpose=values)
lists = st.lists(st.sampled_from(["MR", "CT", "A", "B"]), max_size=3).map(tuple)
scopes = st.builds(Scope, modalities=lists, ae_titles=lists, purpose=values)
_ORDER = {False: 0, None: 1, True: 2}


@given(scopes, uses)
def test_a_scope_holds_only_where_all_that_it_names_is_known_and_listed(scope: Scope, use: Use):
    named = [(scope.modalities, use.modality), (scope.ae_titles, use.ae_title)]
    named += [((scope.purpose,), use.purpose)] if scope.purpose else []
    wanted = [(allowed, value) for allowed, value in named if allowed]
    assert (scope.holds(use) is True) == all(value in allowed for allowed, value in wanted)
    assert (scope.holds(use) is False) == any(v is not None and v not in allowed for allowed, v in wanted)


@given(st.lists(scopes, max_size=3), st.lists(scopes, max_size=3), scopes, uses)
@settings(max_examples=200)
def test_no_restriction_ever_widens_and_no_approval_ever_narrows(
    granted: list[Scope], limits: list[Scope], another: Scope, use: Use
):
    def fit(granted: Iterable[Scope], limits: Iterable[Scope]) -> int:
        statements = [said(Kind.APPROVED, scope=s, ago=n + 2) for n, s in enumerate(granted)]
        statements += [said(Kind.RESTRICTED, scope=s) for s in limits if s != Scope()]
        return _ORDER[folded(*statements).approved_for(use)]

    now = fit(granted, limits)
    assert fit([*granted, another], limits) >= now
    assert fit(granted, [*limits, another]) <= now


def test_any_of_several_approvals_suffices_and_one_without_limits_is_enough():
    both = folded(said(Kind.APPROVED, scope=MR), said(Kind.APPROVED, scope=CT, ago=2))
    assert (both.scope, both.approved_by) == ("modality MR or modality CT", "Dr A")
    assert [both.approved_for(Use(m)) for m in ("MR", "CT", "US", None)] == [True, True, False, None]
    free = folded(said(Kind.APPROVED, scope=MR), said(Kind.APPROVED, ago=2))
    assert free.scope is None
    assert free.approved_for(Use("US"))


def test_what_holds_for_a_use_is_named_once_with_its_end_and_nothing_else_is():
    """These words are in a result's UIDs: the same approvals must give the same words."""
    told = [
        said(Kind.APPROVED, scope=MR, expires=dt.datetime(2028, 1, 1, tzinfo=dt.UTC)),
        said(Kind.APPROVED, scope=MR, ago=3),
        said(Kind.APPROVED, scope=MR, ago=2),
        said(Kind.APPROVED, scope=CT, ago=4),
    ]
    expected = "approved by Dr A, modality MR; approved by Dr A, modality MR, until 2027-12-31"
    assert {folded(*order).granted(Use("MR")) for order in (told, told[::-1])} == {expected}
    assert folded(*told).granted(Use("CT")) == "approved by Dr A, modality CT"
    assert folded(*told).granted(Use("US")) is None
    assert not folded(*told).modality_fits(Use("US"))
    narrowed = folded(*told, said(Kind.RESTRICTED, scope=Scope(purpose="care")))
    assert narrowed.granted(Use("CT", purpose="care")) == "approved by Dr A, modality CT; restricted to purpose care"


def test_an_approval_that_ended_is_remembered_by_its_day():
    ended = folded(said(Kind.APPROVED, ago=3, expires=NOW - HOUR), said(Kind.APPROVED, ago=50, expires=NOW - 30 * HOUR))
    assert (ended.approval, ended.expired) == (Approval.NONE, NOW - HOUR)
    stranger = said(Kind.APPROVED, SigningKey.new(), ago=3, expires=NOW - HOUR)
    assert folded(stranger).expired is None, "nobody whom the site trusts had approved it"


def test_an_expired_approval_leaves_what_the_others_allow():
    ended = said(Kind.APPROVED, ago=3, expires=NOW - HOUR)
    assert folded(ended, said(Kind.APPROVED, scope=MR)).scope == "modality MR"


def test_a_restriction_alone_approves_nothing_and_must_name_a_limit():
    standing = folded(said(Kind.RESTRICTED, scope=MR))
    assert standing.approval is Approval.NONE
    assert standing.approved_for(Use("MR")) is False
    for empty in (None, Scope()):
        with pytest.raises(ValidationError, match="names what it limits to"):
            said(Kind.RESTRICTED, scope=empty)


def test_a_restriction_dated_tomorrow_counts_today():
    """A clock that is wrong must err on the safe side."""
    assert folded(said(Kind.APPROVED), said(Kind.RESTRICTED, scope=CT, ago=-24)).approved_for(Use("MR")) is False


@pytest.mark.parametrize(
    "wrong",
    [
        *({"ae_titles": (title,)} for title in ("A" * 17, "A\\B", "", "A\x1b")),
        *({"modalities": (code,)} for code in ("mr", "M R")),
        *({"purpose": text} for text in ("", "a\nb")),
        {"site": "x"},
    ],
)
def test_a_scope_that_could_match_by_chance_or_steer_a_terminal_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Scope(**wrong)


def test_a_version_is_superseded_until_it_is_approved_again():
    superseded = said(Kind.SUPERSEDED, ago=2)
    assert folded(superseded).superseded
    assert folded(said(Kind.APPROVED, ago=3), superseded).superseded
    assert folded(said(Kind.APPROVED, ago=3), superseded).approval is Approval.APPROVED
    assert not folded(superseded, said(Kind.APPROVED)).superseded
    assert not folded().superseded


def golden(kind: Kind, runs_on: RunsOn = HERE, *, key: SigningKey = SITE, ago: int = 1) -> SignedStatement:
    evidence = runs_on.evidence() | ({"why": "Dice 0.5"} if kind is Kind.FAILED else {})
    return said(kind, key, Role.SITE, ago=ago, evidence=evidence)


def test_the_golden_case_counts_as_it_came_out_last():
    failed = folded(golden(Kind.ADMITTED, ago=2), golden(Kind.FAILED), runs_on=HERE)
    assert (failed.admitted, failed.trusted) == (False, False)
    assert failed.failed == "Dice 0.5; 'residency models admit' replays it"
    passed = folded(golden(Kind.FAILED, ago=2), golden(Kind.ADMITTED), runs_on=HERE)
    assert (passed.admitted, passed.failed, passed.trusted) == (True, None, True)


@pytest.mark.parametrize("other", [{"engine": "OpenVINO 2 CPU"}, {"precision": "bf16"}, {"cpu": "FP32/avx512f"}])
def test_a_golden_case_says_nothing_of_another_engine_precision_or_cpu(other: dict[str, str]):
    elsewhere = replace(HERE, **other)
    for kind in (Kind.ADMITTED, Kind.FAILED):
        standing = folded(golden(kind), runs_on=elsewhere)
        assert (standing.admitted, standing.failed) == (False, None)


def test_only_the_site_says_how_the_golden_case_came_out():
    """Otherwise whoever can store into the archive could keep every model from use here."""
    assert folded(golden(Kind.FAILED, key=APPROVER), runs_on=HERE).failed is None


# -- keys that were replaced


def rotated(*kept: str) -> TrustStore:
    """OLD published, and was replaced by NEW; `kept` are digests of what counts on."""
    retired = Retirement(NOW, NEW.key_id, frozenset(kept))
    roles = (Role.PUBLISHER, Role.APPROVER)
    return TrustStore((trusted(OLD, *roles, retired=retired, name="Before"), trusted(NEW, *roles, name="After")))


def test_a_retired_key_counts_for_what_was_seen_and_nothing_else():
    from residency.package import digest_of

    seen, unseen = b"manifest", b"another"
    trust = rotated(digest_of(seen))
    assert verify(seen, OLD.sign(seen), trust, roles=[Role.PUBLISHER]).name == "Before"
    with pytest.raises(UntrustedKeyError, match="retired on 2026-11-21"):
        verify(unseen, OLD.sign(unseen), trust, roles=[Role.PUBLISHER])
    with pytest.raises(SignatureError, match="does not fit"):
        verify(seen, Signature(OLD.key_id, bytes(64)), trust, roles=[Role.PUBLISHER])
    assert verify(unseen, NEW.sign(unseen), trust, roles=[Role.PUBLISHER]).name == "After"


def test_a_retired_key_can_say_less_but_never_more():
    before, late = said(Kind.APPROVED, OLD, ago=3), said(Kind.APPROVED, OLD)
    assert folded(before, trust=rotated(before.digest)).approval is Approval.APPROVED
    assert folded(late, trust=rotated(before.digest)).approval is Approval.NONE
    suspended = said(Kind.SUSPENDED, OLD)
    assert folded(before, suspended, trust=rotated(before.digest)).approval is Approval.SUSPENDED
    narrowed = said(Kind.RESTRICTED, OLD, scope=CT)
    assert folded(before, narrowed, trust=rotated(before.digest)).approval is Approval.RESTRICTED
    assert not folded(before, said(Kind.SUPERSEDED, OLD), trust=rotated(before.digest)).superseded


def test_the_new_key_withdraws_what_the_old_one_published():
    revoked = said(Kind.REVOKED, NEW, Role.PUBLISHER)
    assert folded(revoked, trust=rotated(), publisher=OLD.key_id).approval is Approval.REVOKED
    assert folded(revoked, trust=rotated(), publisher=APPROVER.key_id).approval is Approval.NONE
    earlier = said(Kind.REVOKED, OLD, Role.PUBLISHER)
    assert folded(earlier, trust=rotated(), publisher=NEW.key_id).approval is Approval.NONE


def test_keys_that_replace_each_other_in_a_circle_end_the_search():
    """A damaged or edited file must not make every look-up hang."""
    one, two = Retirement(NOW, NEW.key_id), Retirement(NOW, OLD.key_id)
    trust = TrustStore((trusted(OLD, Role.PUBLISHER, retired=one), trusted(NEW, Role.PUBLISHER, retired=two)))
    assert trust.same_holder(OLD.key_id, NEW.key_id)
    assert not trust.same_holder(OLD.key_id, SITE.key_id)
    assert not trust.same_holder(None, OLD.key_id)


def test_history_says_why_each_does_not_count():
    stranger = SigningKey.new()
    told = [
        said(Kind.APPROVED, stranger, ago=6),
        said(Kind.APPROVED, SITE, Role.SITE, ago=5),
        said(Kind.APPROVED, ago=4, expires=NOW - 2 * HOUR),
        said(Kind.APPROVED, ago=-1),
        said(Kind.APPROVED, ago=2),
    ]
    heard = hear([*told, *told], TRUST, NOW)
    assert [h.by for h in heard] == [None, SITE.key_id[7:15], "Dr A", "Dr A", "Dr A"]
    reasons = [h.ignored or "" for h in heard]
    assert "does not trust" in reasons[0]
    assert "'site' cannot say this" in reasons[1]
    assert "expired on 2026-11-21 10:00 UTC" in reasons[2]
    assert reasons[3] == ""
    assert "yet to come" in reasons[4]


# -- what the site keeps of it


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "home")
    site.add_key(trusted(OLD, Role.PUBLISHER, Role.APPROVER, name="Dr A"))
    return site


def test_a_rotation_is_found_again_as_it_was_made(site: Site):
    new = site.rotate_key(OLD.key_id, NEW.public, kept=[DIGEST], now=NOW)
    assert (new.name, new.roles) == ("Dr A", {Role.PUBLISHER, Role.APPROVER})
    trust = Site(site.home).trust()
    old = trust.get(OLD.key_id)
    assert old is not None
    assert old.retired == Retirement(NOW, NEW.key_id, frozenset([DIGEST]))
    assert trust.get(NEW.key_id) == new
    other = "sha256:" + "2" * 64
    site.rotate_key(OLD.key_id, NEW.public, kept=[other], now=NOW + HOUR)
    again = site.trust().get(OLD.key_id)
    assert again is not None
    assert again.retired == Retirement(NOW, NEW.key_id, frozenset([DIGEST, other]))


def test_a_rotation_that_makes_no_sense_changes_nothing(site: Site):
    before = site.trust()
    with pytest.raises(UsageError, match="is not trusted here"):
        site.rotate_key(NEW.key_id, OLD.public, kept=[], now=NOW)
    with pytest.raises(UsageError, match="the new key is the old one"):
        site.rotate_key(OLD.key_id, OLD.public, kept=[], now=NOW)
    assert site.trust() == before
    site.add_key(trusted(SITE, Role.APPROVER, name="Dr B"))
    with pytest.raises(UsageError, match=r"trusted here already, as approver under the name 'Dr B'.*trust remove"):
        site.rotate_key(OLD.key_id, SITE.public, kept=[], now=NOW)
    site.remove_key(SITE.key_id)
    assert site.trust() == before
    site.rotate_key(OLD.key_id, NEW.public, kept=[], now=NOW)
    with pytest.raises(UsageError, match="was replaced by"):
        site.rotate_key(OLD.key_id, SITE.public, kept=[], now=NOW)
    with pytest.raises(UsageError, match="was retired here itself"):
        site.rotate_key(NEW.key_id, OLD.public, kept=[], now=NOW)
    with pytest.raises(UsageError, match="was retired here"):
        site.add_key(trusted(OLD, Role.PUBLISHER))


@pytest.mark.parametrize("retired", ["{}", '{"at":"x","kept":[],"successor":"y"}', '{"at":1,"kept":{},"successor":2}'])
def test_a_damaged_retirement_is_an_error_and_never_no_retirement(site: Site, retired: str):
    """The key would count as if it had not been replaced."""
    (file,) = (site.home / "trusted").glob("*.json")
    file.write_text(file.read_text().replace("{", f'{{"retired":{retired},', 1))
    with pytest.raises(ConfigError, match="is damaged"):
        site.trust()


def test_what_takes_from_an_approval_is_remembered_and_the_approval_is_not(site: Site):
    told = [
        said(Kind.APPROVED, OLD),
        said(Kind.RESTRICTED, OLD, scope=MR),
        said(Kind.SUPERSEDED, OLD),
        said(Kind.SUSPENDED, OLD),
        said(Kind.EVALUATED, OLD),
    ]
    assert site.remember(told) == 3
    assert {s.statement.kind for s in site.statements()} == {Kind.RESTRICTED, Kind.SUPERSEDED, Kind.SUSPENDED}


def test_a_withdrawal_by_a_retired_key_is_remembered(site: Site):
    site.rotate_key(OLD.key_id, NEW.public, kept=[], now=NOW)
    assert site.remember([said(Kind.REVOKED, OLD)]) == 1


def test_a_failure_is_kept_with_its_figure_and_undone_by_passing(site: Site):
    site.refuse(DIGEST, HERE, "Dice 0.7\nfor 'hippo\x1bcampus'", NOW)
    failed = judge(Standing(DIGEST, "P"), site.statements(), site.trust(), now=NOW, runs_on=HERE)
    assert failed.failed is not None
    assert failed.failed.startswith("Dice 0.7 for 'hippo campus'")
    site.admit(Admission(DIGEST, HERE, {"hippocampus": 1.0}), NOW + HOUR)
    passed = judge(Standing(DIGEST, "P"), site.statements(), site.trust(), now=NOW + HOUR, runs_on=HERE)
    assert passed.admitted


@given(st.text(max_size=800))
def test_any_reason_becomes_evidence(text: str):
    line = one_line(text)
    assert line.isprintable()
    assert 1 <= len(line) <= 500
