"""Who is believed for what: keys with roles, signed statements, and what they come to. Pure: no disk, no clock."""

from residency.trust.fold import Heard, RunsOn, hear, judge, refuse_withdrawn
from residency.trust.keys import (
    Retirement,
    Role,
    Signature,
    SigningKey,
    TrustedKey,
    TrustStore,
    key_id_of,
    public_from_pem,
    public_pem,
    trusted_key,
    verify,
)
from residency.trust.statement import (
    BY,
    LARGEST_STATEMENT,
    WITHDRAWALS,
    Kind,
    SignedStatement,
    Statement,
    parse_statement,
    sign_statement,
)

__all__ = [
    "BY",
    "LARGEST_STATEMENT",
    "WITHDRAWALS",
    "Heard",
    "Kind",
    "Retirement",
    "Role",
    "RunsOn",
    "Signature",
    "SignedStatement",
    "SigningKey",
    "Statement",
    "TrustStore",
    "TrustedKey",
    "hear",
    "judge",
    "key_id_of",
    "parse_statement",
    "public_from_pem",
    "public_pem",
    "refuse_withdrawn",
    "sign_statement",
    "trusted_key",
    "verify",
]
