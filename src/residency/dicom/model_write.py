"""Package, manifest, statement and card page -> instances of the model object (see `model_object`).

Nothing but the arguments enters: dates are the card's, so equal packages give equal bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from residency.card import Card
from residency.codes import body_part_of_region
from residency.dicom.approval import assertion_item, subject_item
from residency.dicom.coding import own_scheme_item
from residency.dicom.model_object import (
    BYTES,
    BYTES_DIGEST,
    COUNT,
    CREATOR_VERSION_UID,
    DIGEST,
    ELEMENTS,
    ENCAPSULATED_PDF,
    FORMAT,
    FORMAT_VERSION,
    IMPLEMENTATION_UID,
    INDEX,
    KEY_ID,
    KIND,
    LENGTH,
    LIBRARY_PATIENT_ID,
    MANIFEST,
    NAME,
    OFFSET,
    PART,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    RAW_DATA,
    SIGNATURE,
    STATEMENT,
    TEXT,
    card_series_uid_of,
    hex_of,
    manifest_uid_of,
    plan_parts,
    series_uid_of,
    statement_uid_of,
)
from residency.dicom.part10 import EncodedInstance, encode
from residency.dicom.uids import family_study_uid, model_uid
from residency.dicom.wording import UTF8, one_line
from residency.errors import MisplacedError
from residency.package import Manifest, ModelPackage, digest_of
from residency.trust import Signature, SignedStatement


def encode_parts(package: ModelPackage, issuer: str) -> Iterator[EncodedInstance]:
    """The parts, first to last. `issuer` is the site that assigns the library's Patient ID."""
    plans = plan_parts(package.manifest)
    for plan in plans:
        data = package.payload(plan.payload).data[plan.offset : plan.offset + plan.length]
        ds = _raw_data(package.card, package.digest, issuer)
        ds.SOPInstanceUID = plan.uid
        ds.InstanceNumber = plan.index
        ds.ContentLabel = PART
        ds.ContentDescription = f"{plan.payload}, part {plan.index} of {len(plans)}"
        values = {
            KIND: PART,
            DIGEST: hex_of(package.digest),
            INDEX: plan.index,
            COUNT: len(plans),
            NAME: plan.payload,
            OFFSET: plan.offset,
            LENGTH: plan.length,
            BYTES_DIGEST: hex_of(digest_of(data)),
            BYTES: _even(data),
        }
        yield _encoded(ds, values)


def encode_manifest(manifest: Manifest, signature: Signature | None, issuer: str) -> EncodedInstance:
    """The manifest instance: the commit point, to be stored after everything else."""
    ds = _raw_data(manifest.card, manifest.digest, issuer)
    ds.SOPInstanceUID = manifest_uid_of(manifest.digest)
    plans = plan_parts(manifest)
    ds.InstanceNumber = len(plans) + 1
    ds.ContentLabel = MANIFEST
    ds.ContentDescription = one_line(f"{manifest.card.identity.name} {manifest.card.identity.version}")
    values = {
        KIND: MANIFEST,
        DIGEST: hex_of(manifest.digest),
        COUNT: len(plans),
        LENGTH: len(manifest.text),
        TEXT: manifest.text.decode("ascii"),
    }
    return _encoded(ds, values | _signed(signature))


def encode_statement(signed: SignedStatement, manifest: Manifest, issuer: str) -> EncodedInstance:
    """A statement about a version, in its series. Append-only: its UID is a hash of its text.

    Beside the signed text stand the attributes of Protocol Approval, see `approval`.
    """
    subject = signed.statement.subject
    if subject != manifest.digest:
        raise MisplacedError(f"the statement is about {subject}, the model is {manifest.digest}")
    ds = _raw_data(manifest.card, subject, issuer)
    ds.SOPInstanceUID = statement_uid_of(signed)
    ds.InstanceNumber = None
    ds.ContentLabel = STATEMENT
    ds.ContentDescription = one_line(str(signed.statement.kind))
    _set_content_time(ds, signed.statement.issued)
    ds.ApprovalSubjectSequence = Items([subject_item(RAW_DATA, manifest_uid_of(subject))])
    ds.ApprovalSequence = Items([assertion_item(signed, ds.SOPInstanceUID)])
    ds.CodingSchemeIdentificationSequence = Items([own_scheme_item()])
    values = {
        KIND: STATEMENT,
        DIGEST: hex_of(subject),
        LENGTH: len(signed.text),
        TEXT: signed.text.decode("ascii"),
    }
    return _encoded(ds, values | _signed(signed.signature))


def encode_card_page(manifest: Manifest, pdf: bytes, issuer: str) -> EncodedInstance:
    """The card as Encapsulated PDF (PS3.3 A.45.1), in a series of its own: what a person sees in any viewer."""
    card, digest = manifest.card, manifest.digest
    ds = _common(card, digest, issuer)
    ds.SOPClassUID = ENCAPSULATED_PDF
    ds.SOPInstanceUID = model_uid(digest, "card")
    ds.SeriesInstanceUID = card_series_uid_of(digest)
    ds.SeriesDescription = one_line(f"Model card: {card.identity.name}")
    ds.Modality = "DOC"
    ds.ConversionType = "WSD"
    ds.InstanceNumber = 1
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "NO"
    ds.DocumentTitle = one_line(f"Model card: {card.identity.name} {card.identity.version}", 1024)
    ds.ConceptNameCodeSequence = Items([])
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = _even(pdf)
    ds.EncapsulatedDocumentLength = len(pdf)
    return _finished(ds)


def _signed(signature: Signature | None) -> dict[int, Any]:
    return {} if signature is None else {SIGNATURE: signature.value, KEY_ID: hex_of(signature.key_id)}


def _encoded(ds: Dataset, values: dict[int, Any]) -> EncodedInstance:
    ds.PrivateDataElementCharacteristicsSequence = Items([_characteristics()])
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    for at, value in sorted((values | {FORMAT: FORMAT_VERSION}).items()):
        block.add_new(at, ELEMENTS[at][0], value)
    return _finished(ds)


def _characteristics() -> Dataset:
    """Announces the block as safe to keep (PS3.3 C.12.1.1.7, PS3.15 E.3.10), so that de-identifiers may spare it."""
    item = Dataset()
    item.PrivateGroupReference = PRIVATE_GROUP
    item.PrivateCreatorReference = PRIVATE_CREATOR
    item.BlockIdentifyingInformationStatus = "SAFE"
    definitions = []
    for at, (vr, name, keyword) in ELEMENTS.items():
        definition = Dataset()
        definition.PrivateDataElement = at
        definition.PrivateDataElementValueMultiplicity = 1
        definition.PrivateDataElementValueRepresentation = vr
        definition.PrivateDataElementName = name
        definition.PrivateDataElementKeyword = keyword
        definitions.append(definition)
    item.PrivateDataElementDefinitionSequence = Items(definitions)
    return item


def _raw_data(card: Card, digest: str, issuer: str) -> Dataset:
    """What every Raw Data instance of a version has (modules: PS3.3 A.37.3)."""
    ds = _common(card, digest, issuer)
    ds.SOPClassUID = RAW_DATA
    ds.SeriesInstanceUID = series_uid_of(digest)
    ds.SeriesDescription = one_line(f"{card.identity.name} {card.identity.version}")
    ds.Modality = "OT"
    terms = {body_part_of_region(region) for one in card.inputs for region in one.regions}
    if len(terms) == 1 and (term := terms.pop()):
        ds.BodyPartExamined = term
    ds.AcquisitionContextSequence = Items([])
    ds.CreatorVersionUID = CREATOR_VERSION_UID
    return ds


def _common(card: Card, digest: str, issuer: str) -> Dataset:
    """Patient, study, series and equipment. The study holds a family: nothing of a single version may stand in it."""
    identity = card.identity
    ds = Dataset()
    ds.PatientName = "Model^Library"
    ds.PatientID = LIBRARY_PATIENT_ID
    ds.IssuerOfPatientID = one_line(issuer)
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    ds.QualityControlSubject = "YES"
    ds.StudyInstanceUID = family_study_uid(identity.publisher.id, identity.family)
    ds.StudyDate = ""
    ds.StudyTime = ""
    ds.StudyID = ""
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = identity.family
    ds.SeriesNumber = identity.sequence
    created = identity.created.astimezone(dt.UTC)
    ds.SeriesDate = created.strftime("%Y%m%d")
    ds.SeriesTime = created.strftime("%H%M%S")
    _set_content_time(ds, created)
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.Manufacturer = one_line(identity.publisher.name)
    ds.ManufacturerModelName = one_line(identity.name)
    ds.SoftwareVersions = [identity.version, hex_of(digest)]
    ds.ContentQualification = "RESEARCH" if card.regulatory.status == "research only" else "PRODUCT"
    return ds


def _set_content_time(ds: Dataset, moment: dt.datetime) -> None:
    utc = moment.astimezone(dt.UTC)
    ds.ContentDate = utc.strftime("%Y%m%d")
    ds.ContentTime = utc.strftime("%H%M%S")


def _finished(ds: Dataset) -> EncodedInstance:
    ds.SpecificCharacterSet = UTF8
    return encode(ds, class_uid=IMPLEMENTATION_UID, version_name="RESIDENCY_MODEL")


def _even(data: bytes) -> bytes:
    return data + b"\0" if len(data) % 2 else data
