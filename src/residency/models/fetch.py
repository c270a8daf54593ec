"""Fetch a model, verified in the order that costs an attacker most: signature, manifest, parts, digests, graph."""

from __future__ import annotations

from residency.archive import Archive
from residency.dicom.model_object import PartObject, PartPlan, plan_parts
from residency.dicom.model_read import check_place, decode
from residency.errors import DigestError, IncompleteError, MisplacedError, PackageError
from residency.models.check import check_package
from residency.models.find import KnownModel, usable_manifest
from residency.models.folder import LARGEST_PACKAGE, PackageCache
from residency.package import Manifest, ModelPackage, verified_package
from residency.trust import Role, TrustStore, refuse_withdrawn, verify


def fetch(archive: Archive, model: KnownModel, trust: TrustStore, *, cache: PackageCache | None = None) -> ModelPackage:
    """The whole package, every check made again.

    Raises UnsignedError, UntrustedKeyError, SignatureError, ManifestError, MisplacedError, IncompleteError,
    DigestError, CardError, GraphError, RevokedError: the first that applies, in this order, withdrawal before any
    download.
    """
    manifest, found = usable_manifest(model)
    verify(found.text, found.signature, trust, roles=[Role.PUBLISHER])
    check_place(found, manifest.card)
    refuse_withdrawn(model.standing)
    cached = cache.get(manifest.digest) if cache else None
    if cached is not None:
        return cached
    package = verified_package(manifest, read_parts(archive, found.series_uid, manifest))
    check_package(package)
    if cache:
        cache.put(package)
    return package


def read_parts(archive: Archive, series_uid: str, manifest: Manifest) -> dict[str, bytes]:
    """Payload bytes by name, put together from exactly the parts that the manifest implies.

    Raises IncompleteError, DigestError, MisplacedError, PackageError. The caller compares with the manifest's digests.
    """
    total = sum(entry.length for entry in manifest.payloads)
    if total > LARGEST_PACKAGE:
        raise PackageError(f"the manifest lists {total} bytes, at most {LARGEST_PACKAGE} are fetched")
    plans = {plan.uid: plan for plan in plan_parts(manifest)}
    payloads = {entry.name: bytearray(entry.length) for entry in manifest.payloads}
    for instance in archive.instances(series_uid, list(plans)):
        plan = plans.pop(instance.uid, None)
        if plan is None:
            continue
        part = _part(instance.data, plan, manifest)
        payloads[plan.payload][plan.offset : plan.offset + plan.length] = part.data
    if plans:
        first = min(plans.values(), key=lambda p: p.index)
        raise IncompleteError(
            f"{len(plans)} parts are missing, first part {first.index} ({first.uid}): publish the model again"
        )
    return {name: bytes(data) for name, data in payloads.items()}


def _part(data: bytes, plan: PartPlan, manifest: Manifest) -> PartObject:
    part = decode(data)
    if not isinstance(part, PartObject):
        raise MisplacedError(f"{plan.uid} should be part {plan.index} and is a {type(part).__name__}")
    if part.digest != manifest.digest or part.uid != plan.uid:
        raise MisplacedError(f"part {plan.index} ({plan.uid}) belongs to {part.digest}, not to {manifest.digest}")
    if (part.payload, part.index, part.offset) != (plan.payload, plan.index, plan.offset):
        raise MisplacedError(f"part {plan.index} ({plan.uid}) says that it is part {part.index} of '{part.payload}'")
    if len(part.data) != plan.length:
        raise DigestError(
            f"part {plan.index} ({plan.uid}) has {len(part.data)} bytes, the manifest implies {plan.length}"
        )
    return part
