"""Model objects as someone who can write to the archive leaves them: to test that each change is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pydicom

from residency.archive import Instance
from residency.dicom.model_object import (
    DIGEST,
    KEY_ID,
    LENGTH,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    SIGNATURE,
    TEXT,
    manifest_uid_of,
    series_uid_of,
)
from residency.dicom.model_write import encode_manifest, encode_parts
from residency.package import Manifest, ModelPackage, canonical_json, digest_of
from residency.trust import Signature, SigningKey


def instances(package: ModelPackage, key: SigningKey | None) -> list[Instance]:
    """Parts first, the manifest last."""
    signature = key.sign(package.manifest.text) if key else None
    made = [*encode_parts(package, "S"), encode_manifest(package.manifest, signature, "S")]
    return [Instance(one.uid, one.data) for one in made]


def edited(instance: Instance, change: Callable[[pydicom.Dataset, Any], None]) -> Instance:
    """The instance after `change(data set, private block)`."""
    ds = pydicom.dcmread(io.BytesIO(instance.data))
    change(ds, ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return Instance(str(ds.SOPInstanceUID), out.getvalue())


def with_text(instance: Instance, text: bytes, signature: Signature | None = None) -> Instance:
    """A manifest instance with other characters, under the same UIDs."""

    def change(_: pydicom.Dataset, block: Any) -> None:
        block[TEXT].value = text.decode()
        block[LENGTH].value = len(text)
        if signature is not None:
            block[SIGNATURE].value = signature.value
            block[KEY_ID].value = signature.key_id.removeprefix("sha256:")

    return edited(instance, change)


def under_its_own_uids(instance: Instance, text: bytes) -> Instance:
    """A manifest instance moved to where its characters say that it belongs."""
    digest = digest_of(text)

    def change(ds: pydicom.Dataset, block: Any) -> None:
        ds.SOPInstanceUID, ds.SeriesInstanceUID = manifest_uid_of(digest), series_uid_of(digest)
        block[DIGEST].value = digest.removeprefix("sha256:")

    return edited(instance, change)


def forged(manifest: Manifest, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Manifest characters after a change, canonical again."""
    body = json.loads(manifest.text)
    change(body)
    return canonical_json(body)
