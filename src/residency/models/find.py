"""Which models an archive holds, and how far each is to be trusted.

The rows of their instances (see `rows`), then the headers of manifests and statements that are new. Every row is
checked again: a server may ignore a filter and return everything (PS3.18 8.3.4).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from residency.archive import Archive, Entry
from residency.card import Card
from residency.dicom.model_object import (
    LIBRARY_PATIENT_ID,
    MANIFEST,
    PART,
    STATEMENT,
    ManifestObject,
    StatementObject,
    plan_parts,
    statement_uid_of,
)
from residency.dicom.model_read import check_place, decode
from residency.errors import IncompleteError, ManifestError, ModelError, UsageError
from residency.models.index import IndexedText, ModelIndex
from residency.models.rows import model_rows
from residency.package import Manifest, parse_known_manifest, parse_manifest
from residency.standing import Standing
from residency.trust import Role, RunsOn, SignedStatement, TrustStore, judge, parse_statement, trusted_key, verify


@dataclass(frozen=True)
class KnownModel:
    """One version in an archive, usable or not.

    card, manifest  None where there is no readable manifest
    error           why it cannot be used, as the error that using it raises; also in words in `standing.problem`
    missing         UIDs of parts that the manifest implies and the archive does not have
    coerced         the archive filed it under another Patient ID than the library's; it is judged as any other
    """

    manifest_uid: str
    series_uid: str
    study_uid: str
    card: Card | None
    manifest: Manifest | None
    found: ManifestObject | None
    standing: Standing
    error: ModelError | None = None
    missing: tuple[str, ...] = ()
    coerced: bool = False

    @property
    def digest(self) -> str:
        """The version digest; empty for parts without a manifest."""
        return self.standing.digest

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.card.identity.name} {self.card.identity.version}" if self.card else "(unreadable)"


@dataclass(frozen=True)
class Unreadable:
    """An instance of the library, no part and no manifest, that cannot be read: a statement that nobody can hear."""

    uid: str
    series_uid: str
    error: ModelError


@dataclass(frozen=True)
class Library:
    """All models of an archive, by family, then newest first; and the statements that lie beside them."""

    models: tuple[KnownModel, ...]
    statements: tuple[SignedStatement, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def by_digest(self) -> Mapping[str, KnownModel]:
        """One model a version with a readable card: a copy that can be used stands before those that lie elsewhere."""
        readable = [m for m in self.models if m.card is not None]
        found: dict[str, KnownModel] = {}
        for model in readable:
            if model.digest not in found or found[model.digest].error is not None:
                found[model.digest] = model
        return found

    def named(self, text: str) -> KnownModel:
        """The newest readable version of a family or name, or the one of a digest, digest prefix or manifest UID.

        Raises UsageError where none or several models fit.
        """
        wanted = text.strip()
        exact = [m for m in self.models if m.manifest_uid == wanted]
        if not exact and len(wanted.removeprefix("sha256:")) >= 6:
            hexadecimal = "sha256:" + wanted.removeprefix("sha256:")
            exact = [m for m in self.by_digest.values() if m.digest.startswith(hexadecimal)]
        if len(exact) == 1:
            return exact[0]
        by_name = [m for m in self.by_digest.values() if m.card and wanted in _names(m.card)]
        families = {(m.card.identity.publisher.id, m.card.identity.family) for m in by_name if m.card}
        if len(exact) > 1 or len(families) > 1:
            raise UsageError(f"'{text}' fits several models: give more of the digest, see 'residency models list'")
        if not by_name:
            raise UsageError(f"no model '{text}' is in this archive: see 'residency models list'")
        return by_name[0]


def _names(card: Card) -> tuple[str, ...]:
    identity = card.identity
    return (
        identity.family,
        identity.name,
        f"{identity.family} {identity.version}",
        f"{identity.name} {identity.version}",
    )


def find_models(
    archive: Archive,
    trust: TrustStore,
    *,
    now: dt.datetime,
    index: ModelIndex | None = None,
    statements: Iterable[SignedStatement] = (),
    runs_on: RunsOn | None = None,
) -> Library:
    """Every model of the archive with its Standing, also orphans (parts without manifest) and incomplete ones.

    statements  this site's own: admissions, remembered withdrawals
    runs_on     engine and precision for which `admitted` is answered
    """
    known = index.load(archive.url) if index else {}
    series = model_rows(archive, known)
    texts, fresh, broken, unreadable = _texts(archive, series, known)
    stated = _statements(texts)
    heard: dict[str, list[SignedStatement]] = defaultdict(list)
    for signed in {s.text: s for s in [*stated, *statements]}.values():
        heard[signed.statement.subject].append(signed)
    manifests: dict[str, list[IndexedText]] = defaultdict(list)
    for text in texts:
        if text.kind == MANIFEST:
            manifests[text.found.series_uid].append(text)
    models: list[KnownModel] = []
    for series_uid, rows in series.items():
        checked = [_checked(text, rows, trust) for text in manifests[series_uid]]
        fresh += [c.text for c, before in zip(checked, manifests[series_uid], strict=True) if c.text != before]
        unread = sum(one.series_uid == series_uid for one in unreadable)
        coerced = any(row.patient_id != LIBRARY_PATIENT_ID for row in rows.values())
        judged = [replace(_judged(c, unread, trust, heard, now=now, runs_on=runs_on), coerced=coerced) for c in checked]
        unusable = [_unusable(rows, uid, error) for uid, error in broken if uid in rows]
        models += judged + unusable
        if not judged and not unusable:
            orphan = IncompleteError(
                "parts without a manifest: a publication that was interrupted (publish it again) or a removed manifest"
            )
            models.append(_unusable(rows, "", orphan))
    if index:
        index.add(archive.url, [t for t in fresh if t.kind == STATEMENT or t.parts])
    return Library(tuple(sorted(models, key=_order)), tuple(stated), tuple(unreadable))


def _texts(
    archive: Archive, series: Mapping[str, Mapping[str, Entry]], known: Mapping[str, IndexedText]
) -> tuple[list[IndexedText], list[IndexedText], list[tuple[str, ModelError]], list[Unreadable]]:
    """Manifests and statements; the statements among them that are new; manifests (by UID) and others not readable."""
    texts: list[IndexedText] = []
    fresh: list[IndexedText] = []
    broken: list[tuple[str, ModelError]] = []
    unreadable: list[Unreadable] = []
    for series_uid, rows in series.items():
        wanted = []
        for uid, row in rows.items():
            if uid in known and known[uid].found.series_uid == series_uid:
                texts.append(known[uid])
            elif row.content_label != PART:  # an archive that does not answer Content Label is asked for all
                wanted.append(uid)
        for uid, read in _answers(archive, series_uid, wanted):
            if isinstance(read, IndexedText):
                texts.append(read)
                if _is_statement(read):
                    fresh.append(read)
            elif read is not None and rows[uid].content_label == MANIFEST:
                broken.append((uid, read))
            elif read is not None:
                unreadable.append(Unreadable(uid, series_uid, read))
    return texts, fresh, broken, unreadable


def _answers(
    archive: Archive, series_uid: str, wanted: list[str]
) -> Iterator[tuple[str, IndexedText | ModelError | None]]:
    """Each instance that was asked for, once: what it says, None for a part, else why it cannot be read."""
    awaited = set(wanted)
    for instance in archive.headers(series_uid, wanted) if wanted else ():
        if instance.uid not in awaited:
            continue
        awaited.remove(instance.uid)
        try:
            yield instance.uid, _read(instance.data)
        except ModelError as error:
            yield instance.uid, error
    for uid in sorted(awaited):  # it may be a withdrawal: it does not go unseen
        yield uid, IncompleteError(f"{archive.url} lists {uid} and does not give its header: ask again")


def _read(data: bytes) -> IndexedText | None:
    read = decode(data)
    if isinstance(read, ManifestObject):
        return IndexedText(MANIFEST, read)
    if isinstance(read, StatementObject):
        signed = read.signed
        return IndexedText(STATEMENT, ManifestObject(read.uid, read.series_uid, "", signed.text, signed.signature))
    return None


def _is_statement(text: IndexedText) -> bool:
    """True for a statement under the UID that its characters demand, so that the index may answer for the archive."""
    if text.kind != STATEMENT or text.found.signature is None:
        return False
    return text.found.uid == statement_uid_of(parse_statement(text.found.text, text.found.signature))


def _statements(texts: Iterable[IndexedText]) -> list[SignedStatement]:
    return [
        parse_statement(text.found.text, text.found.signature)
        for text in texts
        if text.kind == STATEMENT and text.found.signature is not None
    ]


@dataclass(frozen=True)
class _Checked:
    """A manifest and what was found out about the object itself; `text` as the index shall keep it."""

    text: IndexedText
    manifest: Manifest | None
    publisher: str | None
    missing: tuple[str, ...]
    error: ModelError | None


def _checked(text: IndexedText, rows: Mapping[str, Entry], trust: TrustStore) -> _Checked:
    """Signature, schema, place, parts: the first that fails is the model's problem."""
    found, manifest, publisher = text.found, None, None
    parts, fits = text.parts, text.fits
    missing: tuple[str, ...] = ()
    error: ModelError | None = None
    try:
        if fits:
            publisher = trusted_key(found.text, found.signature, trust, roles=[Role.PUBLISHER]).name
        else:
            publisher, fits = verify(found.text, found.signature, trust, roles=[Role.PUBLISHER]).name, True
    except ModelError as raised:
        error = raised
    try:
        manifest = parse_known_manifest(found.text) if parts else parse_manifest(found.text)
        if not parts:
            check_place(found, manifest.card)
            parts = tuple(plan.uid for plan in plan_parts(manifest))
        missing = tuple(uid for uid in parts if uid not in rows)
        if missing:
            raise IncompleteError(
                f"{len(missing)} of {len(parts)} parts are missing, first {missing[0]}: publish it again"
            )
    except ModelError as raised:
        error = error or raised
    return _Checked(IndexedText(text.kind, found, parts, fits), manifest, publisher, missing, error)


def _judged(
    checked: _Checked,
    unread: int,
    trust: TrustStore,
    statements: Mapping[str, list[SignedStatement]],
    *,
    now: dt.datetime,
    runs_on: RunsOn | None,
) -> KnownModel:
    found, manifest, error = checked.text.found, checked.manifest, checked.error
    standing = judge(
        Standing(found.digest, checked.publisher, str(error) if error else None, unread=unread),
        statements.get(found.digest, ()),
        trust,
        now=now,
        publisher=found.signature.key_id if found.signature else None,
        runs_on=runs_on,
    )
    card = manifest.card if manifest else None
    return KnownModel(
        found.uid, found.series_uid, found.study_uid, card, manifest, found, standing, error, checked.missing
    )


def _unusable(rows: Mapping[str, Entry], uid: str, error: ModelError) -> KnownModel:
    row = next(iter(rows.values()))
    standing = Standing(digest="", publisher=None, problem=str(error))
    return KnownModel(uid, row.series_uid, row.study_uid, None, None, None, standing, error)


def _order(model: KnownModel) -> tuple[str, int, str, str]:
    if model.card is None:
        return "\x7f", 0, model.digest, model.series_uid
    return model.card.identity.family, -model.card.identity.sequence, model.digest, model.series_uid


def usable_manifest(model: KnownModel) -> tuple[Manifest, ManifestObject]:
    """Manifest and object of a model without a problem; raises its error otherwise."""
    if model.error is not None:
        raise model.error
    if model.manifest is None or model.found is None:
        raise ManifestError("the model has no readable manifest")
    return model.manifest, model.found
