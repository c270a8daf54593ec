"""Who is believed for what. Nobody, until a person says so; and a withdrawal beats every approval."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from residency.errors import (
    ManifestError,
    RevokedError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
    UsageError,
)
from residency.package import canonical_json
from residency.standing import Approval, Scope, Standing
from residency.trust import (
    Kind,
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
    key_id_of,
    parse_statement,
    public_from_pem,
    public_pem,
    refuse_withdrawn,
    sign_statement,
    verify,
)

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
PUBLISHER, APPROVER, SITE, STRANGER, BOTH = (SigningKey.new() for _ in range(5))
HOURS = dt.timedelta(hours=1)
MR = Scope(modalities=("MR",))


def trusting(*pairs: tuple[SigningKey, Iterable[Role]]) -> TrustStore:
    names = {PUBLISHER: "Publisher", APPROVER: "Dr Approver", SITE: "this site", BOTH: "Both", STRANGER: "Stranger"}
    return TrustStore(tuple(TrustedKey(k.public, frozenset(r), names[k], NOW) for k, r in pairs))


TRUST = trusting((PUBLISHER, [Role.PUBLISHER]), (APPROVER, [Role.APPROVER]), (SITE, [Role.SITE]))


def said(
    kind: Kind, key: SigningKey, role: Role, *, subject: str = DIGEST, issued: dt.datetime = NOW - HOURS, **more: Any
) -> SignedStatement:
    return sign_statement(
        Statement(kind=kind, subject=subject, issuer=key.key_id, role=role, issued=issued, **more), key
    )


def folded(*statements: SignedStatement, trust: TrustStore = TRUST, **more: Any) -> Standing:
    more = {"now": NOW, "publisher": PUBLISHER.key_id} | more
    return judge(Standing(DIGEST, "Publisher"), statements, trust, **more)


def test_a_fresh_store_trusts_nobody():
    text = b"manifest"
    with pytest.raises(UntrustedKeyError, match="residency trust add"):
        verify(text, PUBLISHER.sign(text), TrustStore(), roles=list(Role))


def test_each_failure_has_its_own_error():
    text = b"manifest"
    with pytest.raises(UnsignedError):
        verify(text, None, TRUST, roles=[Role.PUBLISHER])
    with pytest.raises(UntrustedKeyError, match="does not trust"):
        verify(text, STRANGER.sign(text), TRUST, roles=[Role.PUBLISHER])
    with pytest.raises(UntrustedKeyError, match="trusted as approver, not as publisher"):
        verify(text, APPROVER.sign(text), TRUST, roles=[Role.PUBLISHER])
    with pytest.raises(SignatureError, match="does not fit"):
        verify(text, Signature(PUBLISHER.key_id, STRANGER.sign(text).value), TRUST, roles=[Role.PUBLISHER])
    assert verify(text, PUBLISHER.sign(text), TRUST, roles=[Role.PUBLISHER]).name == "Publisher"


@given(at=st.integers(0, 99), bit=st.integers(0, 7))
@settings(max_examples=30)
def test_any_flipped_bit_of_the_text_breaks_the_signature(at: int, bit: int):
    text = bytes(range(100))
    changed = bytearray(text)
    changed[at] ^= 1 << bit
    with pytest.raises(SignatureError):
        verify(bytes(changed), PUBLISHER.sign(text), TRUST, roles=[Role.PUBLISHER])


@given(at=st.integers(0, 63), bit=st.integers(0, 7))
@settings(max_examples=30)
def test_any_flipped_bit_of_the_signature_breaks_it(at: int, bit: int):
    good = PUBLISHER.sign(b"text")
    changed = bytearray(good.value)
    changed[at] ^= 1 << bit
    with pytest.raises(SignatureError):
        verify(b"text", Signature(good.key_id, bytes(changed)), TRUST, roles=[Role.PUBLISHER])


def test_keys_travel_as_pem_and_keep_their_id():
    again = SigningKey.from_pem(PUBLISHER.pem())
    assert again.key_id == PUBLISHER.key_id == key_id_of(public_from_pem(public_pem(PUBLISHER.public)))
    assert again.sign(b"x") == PUBLISHER.sign(b"x")


def test_a_private_key_shown_as_a_public_one_is_refused_without_using_it():
    with pytest.raises(UsageError, match="keep it secret"):
        public_from_pem(PUBLISHER.pem())


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\0" * 100])
def test_what_is_no_key_is_refused(pem: bytes):
    with pytest.raises(UsageError):
        public_from_pem(pem)
    with pytest.raises(UsageError):
        SigningKey.from_pem(pem)


def test_keys_of_other_kinds_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    private = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(UsageError, match="Ed25519"):
        SigningKey.from_pem(private)
    with pytest.raises(UsageError, match="Ed25519"):
        public_from_pem(public)


def test_a_signing_key_does_not_print_itself():
    assert repr(PUBLISHER) == f"SigningKey({PUBLISHER.key_id})"
    assert b"PRIVATE" not in repr(PUBLISHER).encode()


def test_statements_come_back_from_their_characters():
    made = said(
        Kind.RESTRICTED,
        APPROVER,
        Role.APPROVER,
        expires=NOW + HOURS,
        scope=Scope(ae_titles=("CT1",), modalities=("MR",), purpose="research"),
        comment="Grüße",
    )
    again = parse_statement(made.text, made.signature)
    assert again == made
    assert made.text.isascii()
    assert str(made.statement.scope) == "AE CT1; modality MR; purpose research"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "residency-statement/2"},
        {"kind": "blessed"},
        {"subject": "sha256:1"},
        {"unknown": 1},
        {"issued": "2026-01-01T00:00:00"},
        {"issued": "0001-01-01T00:00:00+14:00"},
        {"expires": "9999-12-31T23:59:59-14:00"},
        {"kind": "revoked", "expires": "2030-01-01T00:00:00Z"},
        {"issuer": OTHER},
    ],
)
def test_malformed_statements_are_refused(change: Mapping[str, Any]):
    import json

    good = said(Kind.APPROVED, APPROVER, Role.APPROVER)
    text = canonical_json(json.loads(good.text) | change)
    with pytest.raises(ManifestError):
        parse_statement(text, good.signature)


def test_a_statement_that_was_written_again_is_refused():
    good = said(Kind.APPROVED, APPROVER, Role.APPROVER)
    with pytest.raises(ManifestError):
        parse_statement(good.text.replace(b",", b", "), good.signature)


def test_a_statement_must_name_its_signer():
    statement = Statement(kind=Kind.APPROVED, subject=DIGEST, issuer=APPROVER.key_id, role=Role.APPROVER, issued=NOW)
    with pytest.raises(UsageError):
        sign_statement(statement, STRANGER)


def test_an_approval_names_who_gave_it_and_its_scope():
    standing = folded(said(Kind.APPROVED, APPROVER, Role.APPROVER, scope=Scope(modalities=("MR",))))
    assert standing.approval is Approval.APPROVED
    assert (standing.approved_by, standing.scope) == ("Dr Approver", "modality MR")


def test_approval_covers_one_digest_never_later_ones():
    assert folded(said(Kind.APPROVED, APPROVER, Role.APPROVER, subject=OTHER)).approval is Approval.NONE


@pytest.mark.parametrize(
    ("kind", "key", "role"),
    [
        (Kind.APPROVED, PUBLISHER, Role.PUBLISHER),
        (Kind.APPROVED, PUBLISHER, Role.APPROVER),
        (Kind.APPROVED, STRANGER, Role.APPROVER),
        (Kind.APPROVED, SITE, Role.SITE),
        (Kind.REVOKED, STRANGER, Role.APPROVER),
        (Kind.REVOKED, SITE, Role.SITE),
    ],
)
def test_who_is_not_trusted_to_say_so_is_not_heard(kind: Kind, key: SigningKey, role: Role):
    assert folded(said(kind, key, role)).approval is Approval.NONE


def test_a_forged_statement_is_not_heard():
    real = said(Kind.APPROVED, APPROVER, Role.APPROVER)
    forged = SignedStatement(real.statement, real.text, Signature(APPROVER.key_id, bytes(64)))
    assert folded(forged).approval is Approval.NONE


def test_expired_approvals_do_not_count_and_revocations_never_expire():
    issued = NOW - 10 * HOURS
    approved = said(Kind.APPROVED, APPROVER, Role.APPROVER, issued=issued, expires=NOW)
    assert folded(approved, now=NOW - HOURS).approval is Approval.APPROVED
    assert folded(approved).approval is Approval.NONE
    with pytest.raises(ValidationError):
        said(Kind.REVOKED, APPROVER, Role.APPROVER, issued=issued, expires=NOW)


def test_an_approval_dated_tomorrow_does_not_count_yet_but_a_suspension_does():
    """A clock that is wrong must err on the safe side."""
    tomorrow = NOW + 24 * HOURS
    assert folded(said(Kind.APPROVED, APPROVER, Role.APPROVER, issued=tomorrow)).approval is Approval.NONE
    assert folded(said(Kind.SUSPENDED, APPROVER, Role.APPROVER, issued=tomorrow)).approval is Approval.SUSPENDED


def test_an_end_in_another_time_zone_is_the_same_moment_and_told_in_utc():
    tokyo = dt.timezone(dt.timedelta(hours=9))
    ends = (NOW - HOURS / 2).astimezone(tokyo)
    signed = said(Kind.APPROVED, APPROVER, Role.APPROVER, issued=NOW - HOURS, expires=ends)
    (heard,) = hear([parse_statement(signed.text, signed.signature)], TRUST, NOW)
    assert heard.ignored == "expired on 2026-11-21 11:30 UTC"
    assert hear([signed], TRUST, ends - HOURS / 4)[0].ignored is None


def test_a_suspension_ends_when_it_expires():
    approved = said(Kind.APPROVED, APPROVER, Role.APPROVER)
    suspended = said(Kind.SUSPENDED, APPROVER, Role.APPROVER, expires=NOW + HOURS)
    assert folded(approved, suspended).approval is Approval.SUSPENDED
    assert folded(approved, suspended, now=NOW + 2 * HOURS).approval is Approval.APPROVED


def test_a_publisher_withdraws_its_own_models_and_no_others():
    revoked = said(Kind.REVOKED, PUBLISHER, Role.PUBLISHER)
    assert folded(revoked).approval is Approval.REVOKED
    assert folded(revoked, publisher=BOTH.key_id).approval is Approval.NONE


_STATEMENTS = [
    said(kind, APPROVER, Role.APPROVER, issued=NOW - n * HOURS, scope=MR if kind is Kind.RESTRICTED else None)
    for kind in (Kind.APPROVED, Kind.RESTRICTED, Kind.SUSPENDED, Kind.REVOKED, Kind.EVALUATED, Kind.SUPERSEDED)
    for n in (1, 2)
]
_STRENGTH = [Kind.REVOKED, Kind.SUSPENDED, Kind.RESTRICTED, Kind.APPROVED]
"""A restriction says nothing of what nobody approved."""


@given(st.lists(st.sampled_from(_STATEMENTS)))
@settings(max_examples=60, deadline=None)
def test_the_strongest_wins_in_any_order_and_number(statements: list[SignedStatement]):
    standing = folded(*statements)
    kinds = {s.statement.kind for s in statements}
    kinds -= set() if Kind.APPROVED in kinds else {Kind.RESTRICTED}
    strongest = next((kind for kind in _STRENGTH if kind in kinds), None)
    assert standing.approval.value == (strongest.value if strongest else "not approved")
    assert standing == folded(*reversed(statements))
    assert standing == folded(*statements, *statements)


def test_admission_holds_for_one_engine_and_precision():
    evidence = {"engine": "OpenVINO 1", "precision": "f32", "dice hippocampus": "1.0"}
    admitted = said(Kind.ADMITTED, SITE, Role.SITE, evidence=evidence)
    assert folded(admitted, runs_on=RunsOn("OpenVINO 1", "f32")).admitted
    assert not folded(admitted, runs_on=RunsOn("OpenVINO 2", "f32")).admitted
    assert not folded(admitted, runs_on=RunsOn("OpenVINO 1", "bf16")).admitted
    assert not folded(admitted).admitted
    assert not folded(
        said(Kind.ADMITTED, APPROVER, Role.SITE, evidence=evidence), runs_on=RunsOn("OpenVINO 1", "f32")
    ).admitted


@pytest.mark.parametrize("kind", [Kind.REVOKED, Kind.SUSPENDED])
def test_a_withdrawn_version_is_refused_with_its_own_error(kind: Kind):
    standing = folded(said(Kind.APPROVED, APPROVER, Role.APPROVER), said(kind, APPROVER, Role.APPROVER))
    assert not standing.trusted
    with pytest.raises(RevokedError, match="Dr Approver"):
        refuse_withdrawn(standing)
