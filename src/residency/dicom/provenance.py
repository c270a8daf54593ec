"""How a result names the network that made it: equipment, algorithm, model reference, series description."""

from __future__ import annotations

from pydicom.dataset import Dataset

from residency.dicom import dataset as datasets
from residency.dicom.coding import (
    ACQUISITION_EQUIPMENT,
    ARTIFICIAL_INTELLIGENCE,
    MODEL,
    PROCESSING_EQUIPMENT,
    code_item,
)
from residency.dicom.wording import LONG_STRING, long_text, one_line
from residency.findings import ModelReference

_LT_LENGTH = 10240
_ST_LENGTH = 1024


def series_description(model: ModelReference) -> str:
    """ "AI <name> (not verified)", the name cut visibly where the whole would not fit.

    Says so until a person has verified the result.
    """
    before, after = "AI ", " (not verified)"
    return before + one_line(model.name, LONG_STRING - len(before) - len(after)) + after


def algorithm_parameters(model: ModelReference) -> tuple[str, ...]:
    """What, besides its name and version, determined what the network found: one "key: value" a line."""
    return (
        f"digest: {model.digest}",
        f"family: {model.family}",
        f"publisher: {model.publisher}",
        f"manifest: {model.manifest_uid}",
        f"precision: {model.precision}",
        f"engine: {model.engine}",
        f"threshold: {model.threshold}",
        *([f"step before: {step_before(model.before)}"] if model.before else []),
    )


def step_before(model: ModelReference) -> str:
    """The network that found the crops, in one line."""
    return f"{model.name} {model.version}, {model.digest}"


def algorithm_identification(model: ModelReference) -> Dataset:
    """Item of Segmentation Algorithm Identification Sequence (DICOM PS3.3 table 10-19)."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = one_line(model.name)
    item.AlgorithmVersion = one_line(model.version)
    item.AlgorithmParameters = long_text("\n".join(algorithm_parameters(model)), _LT_LENGTH)
    item.AlgorithmSource = one_line(model.publisher)
    return item


def contributing_equipment(maker: str, model: ModelReference, source: Dataset) -> list[Dataset]:
    """Items of Contributing Equipment Sequence: the networks, and the scanner where the source names its maker."""
    networks = [_network(maker, one) for one in cascade(model)]
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [code_item(ACQUISITION_EQUIPMENT)]
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber"):
        value = one_line("/".join(datasets.texts(source, keyword)))
        if value:
            setattr(scanner, keyword, value)
    versions = [one_line(text) for text in datasets.texts(source, "SoftwareVersions") if text]
    if versions:
        scanner.SoftwareVersions = versions
    return [*networks, scanner] if "Manufacturer" in scanner else networks


def approval_before(model: ModelReference) -> str:
    """How far the site trusts the network of the step before, where a result says it of both."""
    return f"step before, {model.name} {model.version}: {model.approval}"


def cascade(model: ModelReference) -> tuple[ModelReference, ...]:
    """The network and, after it, the one before it: all that a result depends on."""
    return (model, *(cascade(model.before) if model.before is not None else ()))


def _network(maker: str, model: ModelReference) -> Dataset:
    network = Dataset()
    network.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    network.Manufacturer = maker
    network.ManufacturerModelName = one_line(model.name)
    network.DeviceSerialNumber = one_line(model.digest.removeprefix("sha256:"))
    network.SoftwareVersions = [
        one_line(model.version),
        one_line(model.digest.removeprefix("sha256:")),
        one_line(model.engine),
        one_line(model.precision),
    ]
    network.ContributionDescription = long_text(f"{model.notice}\n{model.approval}", _ST_LENGTH)
    return network


def model_reference(model: ModelReference) -> Dataset:
    """Item of Referenced Instance Sequence: the manifest of the network, under a purpose of our own (C.12.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID = model.manifest_sop_class
    item.ReferencedSOPInstanceUID = model.manifest_uid
    item.PurposeOfReferenceCodeSequence = [code_item(MODEL)]
    return item
