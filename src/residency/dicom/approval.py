"""A statement as the Assertion Macro of DICOM (PS3.3 10.30), so that exporting it as Protocol Approval is a copy.

The signed characters in the private block are what counts; these attributes say the same to other readers. Codes are
those of CID 800 where it has one, of our own scheme elsewhere.
"""

from __future__ import annotations

import datetime as dt

from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from residency.codes import Code
from residency.dicom.coding import OWN_SCHEME, code_item
from residency.dicom.wording import long_text, person_name
from residency.trust import BY, Kind, SignedStatement

_LONGEST = 60_000
"""Characters of comments: more than a statement can hold."""


def _dcm(value: str, meaning: str) -> Code:
    return Code(scheme="DCM", value=value, meaning=meaning)


ASSERTIONS = {
    Kind.APPROVED: _dcm("128603", "Approved for use at the institution"),
    Kind.SUSPENDED: _dcm("128623", "Disapproved for use at the institution"),
    Kind.REVOKED: _dcm("128609", "Disapproved for any use"),
    Kind.SUPERSEDED: _dcm("128610", "Deprecated protocol"),
    Kind.RESTRICTED: Code(scheme=OWN_SCHEME, value="RESTRICTED", meaning="Approvals restricted"),
    Kind.EVALUATED: Code(scheme=OWN_SCHEME, value="EVALUATED", meaning="Evaluated"),
}
"""Assertion Code of each kind of statement that is stored in an archive; the site's own stay at the site."""


def assertion_item(signed: SignedStatement, uid: str) -> Dataset:
    """The item of Approval Sequence (0044,0100). uid: of the statement's instance, its Assertion UID."""
    statement = signed.statement
    item = Dataset()
    item.AssertionCodeSequence = Items([code_item(_code(statement.kind))])
    item.AssertionUID = uid
    item.AsserterIdentificationSequence = Items([_asserter(signed)])
    item.AssertionDateTime = _moment(statement.issued)
    if statement.expires is not None:
        item.AssertionExpirationDateTime = _moment(statement.expires)
    limits = f"Scope: {statement.scope}" if statement.scope else ""
    facts = [f"{name}: {value}" for name, value in sorted(statement.evidence.items()) if name != BY]
    item.AssertionComments = long_text("\n".join(t for t in (statement.comment, limits, *facts) if t), _LONGEST)
    return item


def subject_item(sop_class: str, uid: str) -> Dataset:
    """The item of Approval Subject Sequence (0044,0109): the manifest that the statement is about."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = uid
    return item


def _code(kind: Kind) -> Code:
    return ASSERTIONS.get(kind) or Code(scheme=OWN_SCHEME, value=kind.name, meaning=kind.value.capitalize())


def _asserter(signed: SignedStatement) -> Dataset:
    """Identified Person or Device Macro (PS3.3 C.17.2.4): the person that was named, known by their key."""
    key = signed.signature.key_id.removeprefix("sha256:")
    named = signed.statement.evidence.get(BY) or f"Key {key[:12]}"
    item = Dataset()
    item.ObserverType = "PSN"
    item.PersonName = person_name(named)
    item.PersonIdentificationCodeSequence = Items(
        [code_item(Code(scheme=OWN_SCHEME, value=key, meaning="Ed25519 key, SHA-256 of its public bytes"))]
    )
    role = signed.statement.role
    item.OrganizationalRoleCodeSequence = Items(
        [code_item(Code(scheme=OWN_SCHEME, value=role.name, meaning=role.value.capitalize()))]
    )
    item.InstitutionName = ""
    item.InstitutionCodeSequence = Items([])
    return item


def _moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y%m%d%H%M%S.%f+0000")
