"""Publish a package: parts, card page, and the manifest last, which is what makes it exist.

An archive's success does not mean that your bytes are stored: some keep the first copy of a known UID in silence. So
parts are read back and compared before the manifest is stored, and the manifest afterwards. Publishing again resumes:
UIDs and bytes are the same, and what is there is not sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from residency.archive import Archive, Instance, Level, Query
from residency.card.page import card_page
from residency.dicom.model_object import (
    LIBRARY_PATIENT_ID,
    ManifestObject,
    card_series_uid_of,
    manifest_uid_of,
    plan_parts,
    series_uid_of,
)
from residency.dicom.model_read import decode
from residency.dicom.model_write import encode_card_page, encode_manifest, encode_parts, encode_statement
from residency.dicom.part10 import EncodedInstance
from residency.dicom.uids import family_study_uid
from residency.errors import ArchiveError, ConflictError, ManifestError, ModelError
from residency.files.pdf import page_pdf
from residency.models.check import check_package
from residency.models.fetch import read_parts
from residency.models.find import KnownModel
from residency.package import Manifest, ModelPackage, verified_package
from residency.trust import SignedStatement, SigningKey

DEFAULT_ISSUER = "RESIDENCY"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Published:
    """Where a version lies now, and how many of its instances were stored by this call and how many were there.

    coerced  the archive filed it under another Patient ID: it is found only while nothing lies under the library's own
    """

    digest: str
    manifest_uid: str
    series_uid: str
    study_uid: str
    stored: int
    present: int
    coerced: bool = False


def publish(
    archive: Archive,
    package: ModelPackage,
    key: SigningKey,
    *,
    issuer: str = DEFAULT_ISSUER,
    progress: Progress | None = None,
) -> Published:
    """Publish under the key, or finish an interrupted publication.

    progress  told after each instance how many of how many are in the archive

    Raises GraphError or CardError before anything is stored, ConflictError where the version is there under another
    signature or a UID holds other content, ArchiveError where what is read back is not what was sent.
    """
    check_package(package)
    manifest, digest = package.manifest, package.digest
    series_uid = series_uid_of(digest)
    present = _present(archive, series_uid)
    stored = 0

    signed = encode_manifest(manifest, key.sign(manifest.text), issuer)
    if signed.uid in present:
        _check_manifest(archive, series_uid, signed)
    plans = plan_parts(manifest)
    here, whole = sum(plan.uid in present for plan in plans), len(plans) + 2
    for part in (part for part in encode_parts(package, issuer) if part.uid not in present):
        stored += _store(archive, [part])
        if progress:
            progress(here + stored, whole)
    verified_package(manifest, _read_back(archive, series_uid, manifest))

    if not _present(archive, card_series_uid_of(digest)):
        pdf = page_pdf(card_page(package.card, digest), package.card.identity.publisher.name)
        stored += _store(archive, [encode_card_page(manifest, pdf, issuer)])
    if signed.uid not in present:
        stored += _store(archive, [signed])
        _check_manifest(archive, series_uid, signed)
    if progress:
        progress(whole, whole)
    identity = package.card.identity
    return Published(
        digest=digest,
        manifest_uid=manifest_uid_of(digest),
        series_uid=series_uid,
        study_uid=family_study_uid(identity.publisher.id, identity.family),
        stored=stored,
        present=whole - stored,
        coerced=_is_coerced(archive, series_uid),
    )


def publish_statement(
    archive: Archive, model: KnownModel, signed: SignedStatement, *, issuer: str = DEFAULT_ISSUER
) -> str:
    """Store a statement about a model beside it; its SOP Instance UID. Storing it twice is harmless.

    Also beside a model that cannot be used, as long as its manifest can be read: it may be withdrawn all the same.
    """
    if model.manifest is None:
        raise model.error or ManifestError("the model has no readable manifest")
    made = encode_statement(signed, model.manifest, issuer)
    _store(archive, [made])
    return made.uid


def _present(archive: Archive, series_uid: str) -> set[str]:
    rows = archive.find(Level.INSTANCE, Query(series_uid=series_uid))
    return {row.sop_uid for row in rows if row.series_uid == series_uid}


def _is_coerced(archive: Archive, series_uid: str) -> bool:
    rows = archive.find(Level.INSTANCE, Query(series_uid=series_uid))
    return any(row.series_uid == series_uid and row.patient_id != LIBRARY_PATIENT_ID for row in rows)


def _store(archive: Archive, instances: Iterable[EncodedInstance]) -> int:
    count = 0
    for made in instances:  # one at a time: a part is in memory once
        archive.store([Instance(made.uid, made.data)])
        count += 1
    return count


def _read_back(archive: Archive, series_uid: str, manifest: Manifest) -> dict[str, bytes]:
    try:
        return read_parts(archive, series_uid, manifest)
    except ModelError as error:
        raise ArchiveError(f"{archive.url} does not give back the parts that it accepted: {error}") from error


def _check_manifest(archive: Archive, series_uid: str, sent: EncodedInstance) -> None:
    expected = decode(sent.data)
    for instance in archive.headers(series_uid, [sent.uid]):
        found = decode(instance.data)
        if not isinstance(found, ManifestObject) or not isinstance(expected, ManifestObject):
            break
        if found.text != expected.text:
            raise ArchiveError(f"{archive.url} changed the manifest {sent.uid}: this archive cannot hold models")
        if found.signature != expected.signature:
            by = found.signature.key_id if found.signature else "nobody"
            raise ConflictError(
                f"this version is already in {archive.url}, signed by {by}: trust that key, or publish a new version"
            )
        return
    raise ArchiveError(f"{archive.url} does not give back the manifest {sent.uid} that it accepted", retry=True)
