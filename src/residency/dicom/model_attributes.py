"""The attributes of the model object, as PS3.3 would list them: module, attribute, type, condition.

What `model_write` writes is tested against these tables, and the reference page is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from residency.dicom.model_object import (
    BYTES,
    BYTES_DIGEST,
    COUNT,
    DIGEST,
    FORMAT,
    INDEX,
    KEY_ID,
    KIND,
    LENGTH,
    MANIFEST,
    NAME,
    OFFSET,
    PART,
    SIGNATURE,
    STATEMENT,
    TEXT,
)

CARD = "CARD"
"""The card page: an Encapsulated PDF, which has no Content Label."""

KINDS = (PART, MANIFEST, STATEMENT, CARD)
_RAW = (PART, MANIFEST, STATEMENT)


@dataclass(frozen=True)
class Attribute:
    """One attribute of some kinds of instances.

    path     keyword; below a sequence the keywords of the sequences before it, joined by ">"
    type     1: there with a value; 2: there, may be empty; 1C, 2C: the same under the condition; 3: optional. Where the
             standard allows more, this object is stricter
    content  what it holds, and the condition of a 1C or 2C
    """

    module: str
    path: str
    type: str
    kinds: tuple[str, ...]
    content: str


def _rows(module: str, kinds: tuple[str, ...], *rows: tuple[str, str, str]) -> tuple[Attribute, ...]:
    return tuple(Attribute(module, path, type_, kinds, content) for path, type_, content in rows)


_DEFINITION = "PrivateDataElementCharacteristicsSequence"
_ELEMENT = f"{_DEFINITION}>PrivateDataElementDefinitionSequence"
_ASSERTER = "ApprovalSequence>AsserterIdentificationSequence"

ATTRIBUTES: tuple[Attribute, ...] = (
    *_rows(
        "Patient (C.7.1.1)",
        KINDS,
        ("PatientName", "1", "Model^Library"),
        ("PatientID", "1", "RESIDENCY-MODELS; an archive may coerce it"),
        ("IssuerOfPatientID", "1", "the site that publishes"),
        ("PatientBirthDate", "2", "empty"),
        ("PatientSex", "2", "empty"),
        ("QualityControlSubject", "1", "YES: no person"),
    ),
    *_rows(
        "General Study (C.7.2.1)",
        KINDS,
        ("StudyInstanceUID", "1", "hash of the publisher's id and the family"),
        ("StudyDate", "2", "empty: a study holds all versions of a family"),
        ("StudyTime", "2", "empty"),
        ("StudyID", "2", "empty"),
        ("AccessionNumber", "2", "empty"),
        ("ReferringPhysicianName", "2", "empty"),
        ("StudyDescription", "1", "the family"),
    ),
    *_rows(
        "General Series (C.7.3.1)",
        KINDS,
        ("Modality", "1", "OT; DOC for the card page"),
        ("SeriesInstanceUID", "1", "hash of the version digest; the card page has a series of its own"),
        ("SeriesNumber", "1", "sequence number of the version"),
        ("SeriesDate", "1", "when the version was made, by the card, in UTC"),
        ("SeriesTime", "1", "the same"),
        ("SeriesDescription", "1", "name and version; 'Model card' and the name for the card page"),
    ),
    *_rows(
        "General Series (C.7.3.1)",
        _RAW,
        ("BodyPartExamined", "1C", "if the card's regions are one, and it has a term in PS3.16 Annex L"),
    ),
    *_rows(
        "General Equipment (C.7.5.1)",
        KINDS,
        ("Manufacturer", "1", "the publisher"),
        ("ManufacturerModelName", "1", "name of the model"),
        ("SoftwareVersions", "1", "version, and the version digest as 64 digits"),
    ),
    *_rows(
        "Acquisition Context (C.7.6.14)",
        _RAW,
        ("AcquisitionContextSequence", "2", "empty"),
    ),
    *_rows(
        "Raw Data (C.19.1)",
        _RAW,
        ("ContentDate", "1", "when the version was made, of a statement when it was issued, in UTC"),
        ("ContentTime", "1", "the same"),
        ("CreatorVersionUID", "1", "names this layout; readers that do not know it leave the content alone"),
        ("ContentLabel", "1", "PART, MANIFEST or STATEMENT: what archives are asked for"),
        ("ContentDescription", "1", "for people: payload and part, model and version, or kind of statement"),
    ),
    *_rows(
        "Raw Data (C.19.1)",
        (PART, MANIFEST),
        ("InstanceNumber", "1", "index of the part from 1; one more than the last part for the manifest"),
    ),
    *_rows(
        "Raw Data (C.19.1)",
        (STATEMENT,),
        ("InstanceNumber", "2", "empty: statements have no order but their time"),
    ),
    *_rows(
        "Encapsulated Document (C.24.2) and SC Equipment (C.8.6.1)",
        (CARD,),
        ("InstanceNumber", "1", "1"),
        ("ContentDate", "1", "when the version was made"),
        ("ContentTime", "1", "the same"),
        ("AcquisitionDateTime", "2", "empty"),
        ("BurnedInAnnotation", "1", "NO: no patient is in it"),
        ("DocumentTitle", "1", "'Model card', name and version"),
        ("ConceptNameCodeSequence", "2", "empty"),
        ("MIMETypeOfEncapsulatedDocument", "1", "application/pdf"),
        ("EncapsulatedDocument", "1", "the page; padded to an even length"),
        ("EncapsulatedDocumentLength", "1", "its length without the pad"),
        ("ConversionType", "1", "WSD"),
    ),
    *_rows(
        "Approval (C.36.4.1, as of Protocol Approval)",
        (STATEMENT,),
        ("ApprovalSubjectSequence", "1", "the manifest"),
        ("ApprovalSubjectSequence>ReferencedSOPClassUID", "1", "Raw Data Storage"),
        ("ApprovalSubjectSequence>ReferencedSOPInstanceUID", "1", "the manifest's"),
        ("ApprovalSequence", "1", "one item: the statement in standard attributes; the signed text is what counts"),
        ("ApprovalSequence>AssertionCodeSequence", "1", "kind of the statement, by CID 800 where it has the concept"),
        ("ApprovalSequence>AssertionUID", "1", "the SOP Instance UID of the statement"),
        ("ApprovalSequence>AssertionDateTime", "1", "when it was issued"),
        ("ApprovalSequence>AssertionExpirationDateTime", "1C", "if the statement expires"),
        ("ApprovalSequence>AssertionComments", "2", "comment, scope and evidence in words"),
        ("ApprovalSequence>AsserterIdentificationSequence", "1", "who says so"),
        (f"{_ASSERTER}>ObserverType", "1", "PSN"),
        (f"{_ASSERTER}>PersonName", "1", "the person named, else the key"),
        (f"{_ASSERTER}>PersonIdentificationCodeSequence", "1", "the key that signed"),
        (f"{_ASSERTER}>OrganizationalRoleCodeSequence", "1", "publisher or approver"),
        (f"{_ASSERTER}>InstitutionName", "2", "empty"),
        (f"{_ASSERTER}>InstitutionCodeSequence", "2", "empty"),
    ),
    *_rows(
        "SOP Common (C.12.1)",
        KINDS,
        ("SOPClassUID", "1", "Raw Data Storage; Encapsulated PDF Storage for the card page"),
        ("SOPInstanceUID", "1", "hash of the version digest, role and index; of the text for a statement"),
        ("SpecificCharacterSet", "1", "ISO_IR 192"),
        ("TimezoneOffsetFromUTC", "1", "+0000"),
        ("ContentQualification", "1", "RESEARCH where the card says so of its regulatory status, else PRODUCT"),
    ),
    *_rows(
        "SOP Common (C.12.1)",
        (STATEMENT,),
        ("CodingSchemeIdentificationSequence", "1", "the scheme of our own codes"),
        ("CodingSchemeIdentificationSequence>CodingSchemeDesignator", "1", "99RESIDENCY"),
        ("CodingSchemeIdentificationSequence>CodingSchemeName", "1", "its name"),
        ("CodingSchemeIdentificationSequence>CodingSchemeResponsibleOrganization", "1", "Residency"),
    ),
    *_rows(
        "SOP Common (C.12.1)",
        _RAW,
        (_DEFINITION, "1", "announces the private block, so that de-identifiers may keep it"),
        (f"{_DEFINITION}>PrivateGroupReference", "1", "the group of the block"),
        (f"{_DEFINITION}>PrivateCreatorReference", "1", "its creator"),
        (f"{_DEFINITION}>BlockIdentifyingInformationStatus", "1", "SAFE: nothing in it identifies a person"),
        (_ELEMENT, "1", "one item for each element of the block"),
        (f"{_ELEMENT}>PrivateDataElement", "1", "offset in the block"),
        (f"{_ELEMENT}>PrivateDataElementValueMultiplicity", "1", "1"),
        (f"{_ELEMENT}>PrivateDataElementValueRepresentation", "1", "its value representation"),
        (f"{_ELEMENT}>PrivateDataElementName", "1", "its name"),
        (f"{_ELEMENT}>PrivateDataElementKeyword", "1", "its keyword"),
    ),
)


@dataclass(frozen=True)
class PrivateAttribute:
    """One element of the private block: its type in each kind of instance that has it, and what it holds."""

    offset: int
    types: dict[str, str]
    content: str


PRIVATE_ATTRIBUTES: tuple[PrivateAttribute, ...] = (
    PrivateAttribute(KIND, dict.fromkeys(_RAW, "1"), "PART, MANIFEST or STATEMENT"),
    PrivateAttribute(FORMAT, dict.fromkeys(_RAW, "1"), "version of this layout; a reader refuses others"),
    PrivateAttribute(DIGEST, dict.fromkeys(_RAW, "1"), "the version digest, 64 digits; of a statement, its subject's"),
    PrivateAttribute(INDEX, {PART: "1"}, "index of the part over all payloads"),
    PrivateAttribute(COUNT, {PART: "1", MANIFEST: "1"}, "how many parts the version has"),
    PrivateAttribute(NAME, {PART: "1"}, "name of the payload that the part belongs to"),
    PrivateAttribute(OFFSET, {PART: "1"}, "where in the payload the part begins"),
    PrivateAttribute(LENGTH, dict.fromkeys(_RAW, "1"), "length of the bytes or of the text; padding is not content"),
    PrivateAttribute(BYTES_DIGEST, {PART: "1"}, "SHA-256 of the part's bytes without the pad, 64 digits"),
    PrivateAttribute(TEXT, {MANIFEST: "1", STATEMENT: "1"}, "canonical JSON in ASCII; what is signed"),
    PrivateAttribute(
        SIGNATURE, {MANIFEST: "1C", STATEMENT: "1"}, "of exactly these characters; a manifest has it if it is signed"
    ),
    PrivateAttribute(KEY_ID, {MANIFEST: "1C", STATEMENT: "1"}, "the key that signed; together with the signature"),
    PrivateAttribute(BYTES, {PART: "2"}, "the piece of the payload, padded to an even length"),
)
