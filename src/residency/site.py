"""What this site has decided, on its own disk: keys trusted, models admitted, withdrawals seen, rules approved.

Every decision is a small file of its own, named by a digest and written whole or not at all, so any number of
processes may write at once and none can leave half a decision behind. The directory is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from residency.errors import ConfigError, ModelError, UsageError
from residency.models import ModelIndex, PackageCache
from residency.models.admit import Admission
from residency.models.folder import private_folder
from residency.package import canonical_json
from residency.trust import (
    BY,
    WITHDRAWALS,
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
    key_id_of,
    parse_statement,
    sign_statement,
    verify,
)

_REMEMBERED = WITHDRAWALS | {Kind.SUPERSEDED}
"""What an archive that lost it, or a copy of it from last year, must not undo. Approvals are not among them: deleting
one takes it back."""

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """The decisions under one home directory. Nothing is made on disk before something is decided."""

    home: Path

    @property
    def index(self) -> ModelIndex:
        """The look-up of models; may be thrown away."""
        return ModelIndex(self.home / "cache" / "models.sqlite")

    @property
    def packages(self) -> PackageCache:
        """Fetched packages; may be thrown away."""
        return PackageCache(self.home / "cache" / "packages")

    def trust(self) -> TrustStore:
        """The trusted keys, and this site's own if it has one. Empty on a fresh installation.

        Raises ConfigError for a damaged one: with an approver's key, their withdrawals would be forgotten too.
        """
        keys = {key.key_id: key for key in self._added()}
        own = self._existing_key()
        if own is not None:
            known = keys.get(own.key_id)
            roles = (known.roles if known else frozenset()) | {Role.SITE}
            since = known.since if known else dt.datetime.fromtimestamp(0, dt.UTC)
            retired = known.retired if known else None
            keys[own.key_id] = TrustedKey(own.public, roles, known.name if known else "this site", since, retired)
        return TrustStore(tuple(keys[key_id] for key_id in sorted(keys)))

    def add_key(self, key: TrustedKey) -> None:
        """Trust a key; roles it had before are kept. An act of a person. Raises UsageError for the role `site`."""
        if Role.SITE in key.roles or not key.roles:
            raise UsageError("a key is trusted as publisher, as approver, or as both")
        known = self._known(key.key_id)
        if known is not None and known.retired is not None:
            raise UsageError(
                f"the key of '{known.name}' was retired here and replaced by {known.retired.successor}; to trust it "
                "again all the same, remove it first: residency trust remove"
            )
        roles = key.roles | (known.roles if known else frozenset())
        self._keep_key(replace(key, roles=roles, since=known.since if known else key.since))

    def rotate_key(self, old_id: str, public: bytes, *, kept: Iterable[str], now: dt.datetime) -> TrustedKey:
        """Retire a key and trust its holder's new one (32 bytes) for the same roles; the new key.

        kept  digests of the signed texts of the old key that go on counting; added to those of a rotation before

        Raises UsageError for an old key that is not trusted or was replaced by another one, or a new key that is the
        old one, retired itself, or trusted under another name or role.
        """
        old, new_id = self._known(old_id), key_id_of(public)
        known = self._known(new_id)
        if old is None:
            raise UsageError(f"the key {old_id} is not trusted here: see 'residency trust list'")
        if old.retired is not None and old.retired.successor != new_id:
            raise UsageError(f"the key of '{old.name}' was replaced by {old.retired.successor} already: give that one")
        if new_id == old_id or (known is not None and known.retired is not None):
            raise UsageError("the new key is the old one, or was retired here itself: have a new one made")
        if known is not None and old.retired is None and (known.name, known.roles) != (old.name, old.roles):
            raise UsageError(
                f"the new key is trusted here already, as {' and '.join(sorted(known.roles))} under the name "
                f"'{known.name}': a key that takes over has no other holder or role; have a new one made, or, if it is "
                f"that of '{old.name}' after all, remove it first: residency trust remove {new_id}"
            )
        since, name = (known.since, known.name) if known else (now, old.name)
        new = TrustedKey(public, old.roles | (known.roles if known else frozenset()), name, since)
        before = old.retired or Retirement(now, new_id)
        self._keep_key(new)
        self._keep_key(replace(old, retired=replace(before, kept=before.kept | frozenset(kept))))
        return new

    def remove_key(self, key_id: str) -> tuple[str, ...]:
        """Trust a key no longer; digests of the versions that it had withdrawn, which it does not any more.

        Raises UsageError where it is not trusted.
        """
        if key_id not in {k.key_id for k in self._added()}:
            raise UsageError(f"the key {key_id} is not trusted here: see 'residency trust list'")
        self._path("trusted", key_id).unlink(missing_ok=True)
        signed = (s.statement for s in self.statements() if s.signature.key_id == key_id)
        return tuple(sorted({s.subject for s in signed if s.kind in WITHDRAWALS}))

    def own_key(self) -> SigningKey:
        """The key of this installation, which signs admissions; made at first need, mode 0600."""
        existing = self._existing_key()
        if existing is not None:
            return existing
        self._folder("")
        try:
            new_file(self.home / "site.key", SigningKey.new().pem())
        except FileExistsError:
            pass  # another process was first: its key is the site's
        except OSError as error:
            raise ConfigError(f"the site's key cannot be kept in {self.home / 'site.key'}: {error.strerror}") from None
        made = self._existing_key()
        if made is None:
            raise ConfigError(f"the site's key cannot be kept in {self.home / 'site.key'}")
        return made

    def statements(self) -> tuple[SignedStatement, ...]:
        """Admissions and remembered withdrawals.

        Raises ConfigError for a damaged one: it may be the withdrawal that keeps a model from being used.
        """
        return tuple(_read(path, _statement(data)) for path, data in self._files("statements"))

    def keep(self, signed: SignedStatement) -> None:
        """Keep a statement on disk."""
        self._write("statements", signed.digest, _stored(signed))

    def remember(self, statements: Iterable[SignedStatement]) -> int:
        """Keep what takes from an approval, as seen in an archive, so that deleting it there brings no model back.

        Only what is signed by a key trusted to say so; how many were new.
        """
        trust, new = self.trust().hearing_withdrawals(), 0
        for signed in statements:
            if signed.statement.kind not in _REMEMBERED or self._path("statements", signed.digest).exists():
                continue
            with contextlib.suppress(ModelError):
                verify(signed.text, signed.signature, trust, roles=[Role.PUBLISHER, Role.APPROVER])
                self.keep(signed)
                new += 1
        return new

    def admit(self, admission: Admission, now: dt.datetime) -> SignedStatement:
        """Record that a model passed its golden case here: a statement signed with the site's own key."""
        return self._record(Kind.ADMITTED, admission.digest, admission.evidence(), now)

    def refuse(self, digest: str, runs_on: RunsOn, why: str, now: dt.datetime) -> SignedStatement:
        """Record that a model failed its golden case here, and with which figure, so that it is not offered again."""
        return self._record(Kind.FAILED, digest, runs_on.evidence() | {"why": one_line(why)}, now)

    def approve_rules(self, digest: str, *, by: str, now: dt.datetime) -> SignedStatement:
        """Record that a person approved the label rules with this digest."""
        key = self.own_key()
        statement = Statement(
            kind=Kind.APPROVED,
            subject=digest,
            issuer=key.key_id,
            role=Role.SITE,
            issued=now,
            comment="label rules",
            evidence={BY: by},
        )
        signed = sign_statement(statement, key)
        self._write("rules", digest, _stored(signed))
        return signed

    def rules_approval(self, digest: str) -> Statement | None:
        """The approval of exactly these rules, or None. Changed rules have another digest and need another approval."""
        try:
            signed = _statement(self._path("rules", digest).read_bytes())
        except OSError:
            return None
        if signed is None or signed.statement.subject != digest or signed.statement.kind is not Kind.APPROVED:
            return None
        with contextlib.suppress(ModelError):
            verify(signed.text, signed.signature, self.trust(), roles=[Role.SITE])
            return signed.statement
        return None

    def _record(self, kind: Kind, digest: str, evidence: Mapping[str, str], now: dt.datetime) -> SignedStatement:
        key = self.own_key()
        statement = Statement(
            kind=kind, subject=digest, issuer=key.key_id, role=Role.SITE, issued=now, evidence=evidence
        )
        signed = sign_statement(statement, key)
        self.keep(signed)
        return signed

    def _known(self, key_id: str) -> TrustedKey | None:
        return next((key for key in self._added() if key.key_id == key_id), None)

    def _keep_key(self, key: TrustedKey) -> None:
        content: dict[str, object] = {
            "public": key.public.hex(),
            "roles": sorted(key.roles - {Role.SITE}),
            "name": key.name,
            "since": key.since.isoformat(),
        }
        if key.retired is not None:
            content["retired"] = {
                "at": key.retired.at.isoformat(),
                "successor": key.retired.successor,
                "kept": sorted(key.retired.kept),
            }
        self._write("trusted", key.key_id, canonical_json(content))

    def _added(self) -> list[TrustedKey]:
        return [_read(path, _trusted_key(data)) for path, data in self._files("trusted")]

    def _existing_key(self) -> SigningKey | None:
        try:
            return SigningKey.from_pem((self.home / "site.key").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, UsageError) as error:
            raise ConfigError(f"the site's key {self.home / 'site.key'} cannot be read: {error}") from None

    def _files(self, what: str) -> Iterator[tuple[Path, bytes]]:
        folder = self.home / what
        if folder.is_dir():
            for path in sorted(folder.glob("*.json")):
                try:
                    data = path.read_bytes()
                except FileNotFoundError:  # taken back meanwhile
                    continue
                except OSError as error:
                    raise ConfigError(f"the decision {path} cannot be read: {error.strerror}") from None
                yield path, data

    def _path(self, what: str, digest: str) -> Path:
        return self.home / what / f"{digest.removeprefix('sha256:')}.json"

    def _folder(self, what: str) -> Path:
        folder = self.home / what if what else self.home
        try:
            private_folder(folder)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made: {error.strerror}; set 'home' to a place of your own") from None
        return folder

    def _write(self, what: str, digest: str, data: bytes) -> None:
        self._folder(what)
        path = self._path(what, digest)
        try:
            with _complete(path, data) as made:
                made.replace(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def new_file(path: Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all. Raises FileExistsError rather than replace one."""
    with _complete(path, data) as made:
        os.link(made, path)


@contextlib.contextmanager
def _complete(path: Path, data: bytes) -> Iterator[Path]:
    """A finished temporary file of mode 0600 beside `path`; gone afterwards if it was not moved."""
    handle, name = tempfile.mkstemp(prefix=".incoming-", dir=path.parent)
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield made
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        made.unlink(missing_ok=True)


_LONGEST_REASON = 500


def one_line(text: str) -> str:
    """Text as evidence of a statement holds it: printable, one line, 500 characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON] or "?"


def _read(path: Path, found: T | None) -> T:
    if found is None:
        raise ConfigError(
            f"the decision {path} of this site is damaged; nothing runs without it, since it may keep a model from "
            "use: bring it back from a copy, or delete it and decide anew"
        )
    return found


def _trusted_key(data: bytes) -> TrustedKey | None:
    try:
        body = json.loads(data)
        public = bytes.fromhex(body["public"])
        roles = frozenset(Role(role) for role in body["roles"]) - {Role.SITE}
        since = dt.datetime.fromisoformat(body["since"])
        retired = _retirement(body["retired"]) if "retired" in body else None
        return TrustedKey(public, roles, str(body["name"]), since, retired) if len(public) == 32 else None
    except (ValueError, KeyError, TypeError):
        return None


def _retirement(body: Mapping[str, object]) -> Retirement:
    kept = body["kept"]
    if not isinstance(kept, list):
        raise TypeError("kept is no list")
    at = dt.datetime.fromisoformat(str(body["at"]))
    return Retirement(at, str(body["successor"]), frozenset(map(str, kept)))


def _stored(signed: SignedStatement) -> bytes:
    return canonical_json(
        {
            "text": signed.text.decode("ascii"),
            "key_id": signed.signature.key_id,
            "signature": signed.signature.value.hex(),
        }
    )


def _statement(data: bytes) -> SignedStatement | None:
    try:
        body: Mapping[str, str] = json.loads(data)
        signature = Signature(body["key_id"], bytes.fromhex(body["signature"]))
        return parse_statement(body["text"].encode("ascii"), signature)
    except (ValueError, KeyError, TypeError, AttributeError, ModelError):
        return None
