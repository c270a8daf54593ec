"""Single-frame phantoms as one enhanced multi-frame image: the same voxels in the other form (DICOM PS3.3 A.36, A.38).

The frames stand in the order of the files; what is equal in all of them is shared, the rest is said for each frame. CT
and MR satisfy validators of IODs; PET lacks what its module asks about the radiopharmaceutical.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.tag import Tag

from residency.dicom.part10 import encode
from residency.dicom.uids import derived_uid

ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2": "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4": "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.128": "1.2.840.10008.5.1.4.1.1.130",
}
"""Enhanced SOP class by the one of single frames: CT, MR, PET."""

_FRAME_TYPES = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence", "PT": "PETFrameTypeSequence"}
_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
_REGIONS = {"BRAIN": ("12738006", "Brain"), "ABDOMEN": ("818981001", "Abdomen")}
_MOVED = frozenset(
    {
        *(keyword for keywords in _GROUPS.values() for keyword in keywords),
        *("PixelData", "InstanceNumber", "EchoTime", "EchoNumbers", "EchoTrainLength", "TemporalPositionIdentifier"),
        *(
            "DiffusionBValue",
            "DiffusionGradientOrientation",
            "ScanningSequence",
            "SequenceVariant",
            "ScanOptions",
            "RepetitionTime",
            "InversionTime",
        ),
        *("FlipAngle", "KVP", "ConvolutionKernel", "MRAcquisitionType"),
    }
)


def enhanced(files: Sequence[bytes], **attributes: object) -> bytes:
    """One enhanced instance of single-frame ones of CT, MR or PET, which share size, patient and series.

    attributes  by DICOM keyword, at the top of the instance; None takes the attribute out
    """
    singles = [dcmread(BytesIO(data)) for data in files]
    first = singles[0]
    made = Dataset()
    made.update({element.tag: element for element in first if element.keyword not in _MOVED})
    made.SOPClassUID = ENHANCED[first.SOPClassUID]
    made.SOPInstanceUID = derived_uid("phantom", "enhanced", *(one.SOPInstanceUID for one in singles))
    made.InstanceNumber, made.NumberOfFrames = "1", len(singles)
    made.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    _describe(made, made, contrast=first.get("AcquisitionContrast", "UNKNOWN"))
    made.ContentQualification, made.PresentationLUTShape = "RESEARCH", "IDENTITY"
    made.BurnedInAnnotation = "NO"
    made.LossyImageCompression = "00"
    made.AcquisitionContextSequence = []
    _add_dimensions(made, first)
    shared = Dataset()
    per_frame = [_content(k) for k in range(1, len(singles) + 1)]
    for sequence, keywords in _GROUPS.items():
        items = [_item(one, keywords) for one in singles]
        alike = sequence != "PlanePositionSequence" and all(item == items[0] for item in items)
        for groups, item in [(shared, items[0])] if alike else zip(per_frame, items, strict=True):
            setattr(groups, sequence, [item])
    _add_kind(shared, per_frame, singles)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], per_frame
    made.PixelData = b"".join(one.PixelData for one in singles)
    made["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is not None:
            setattr(made, keyword, value)
        elif keyword in made:
            delattr(made, keyword)
    return encode(made).data


def _describe(made: Dataset, where: Dataset, contrast: str) -> None:
    """What kind of image it is: at the top and in the frame type (C.8.16.2, C.8.13.3)."""
    where.PixelPresentation, where.VolumetricProperties = "MONOCHROME", "VOLUME"
    where.VolumeBasedCalculationTechnique = "NONE"
    if made.Modality == "MR":
        where.ComplexImageComponent, where.AcquisitionContrast = "MAGNITUDE", contrast
        made.ApplicableSafetyStandardAgency = "IEC"


def _add_dimensions(made: Dataset, first: Dataset) -> None:
    organisation, index = Dataset(), Dataset()
    organisation.DimensionOrganizationUID = derived_uid("phantom", "dimensions", first.SeriesInstanceUID)
    index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
    index.DimensionIndexPointer, index.FunctionalGroupPointer = (
        Tag("InStackPositionNumber"),
        Tag("FrameContentSequence"),
    )
    made.DimensionOrganizationSequence, made.DimensionIndexSequence = [organisation], [index]


def _content(number: int) -> Dataset:
    groups, content = Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number, [number]
    groups.FrameContentSequence = [content]
    return groups


def _item(single: Dataset, keywords: Sequence[str]) -> Dataset:
    item = Dataset()
    item.update({single[keyword].tag: single[keyword] for keyword in keywords if keyword in single})
    if "RescaleType" in keywords:
        for keyword, value in (("RescaleSlope", "1"), ("RescaleIntercept", "0"), ("RescaleType", "US")):
            if keyword not in item:
                setattr(item, keyword, value)
    return item


def _add_kind(shared: Dataset, per_frame: Sequence[Dataset], singles: Sequence[Dataset]) -> None:
    """Frame type, and of MR the echo, diffusion and temporal position of each frame that has them."""
    first = singles[0]
    kind = Dataset()
    kind.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    _describe(first, kind, contrast=first.get("AcquisitionContrast", "UNKNOWN"))
    setattr(shared, _FRAME_TYPES[first.Modality], [kind])
    if "BodyPartExamined" in first:
        anatomy, region = Dataset(), Dataset()
        region.CodeValue, region.CodeMeaning = _REGIONS[first.BodyPartExamined]
        region.CodingSchemeDesignator = "SCT"
        anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [region], "U"
        shared.FrameAnatomySequence = [anatomy]
    if first.Modality == "CT":
        event = Dataset()
        event.IrradiationEventUID = derived_uid("phantom", "irradiation", first.SeriesInstanceUID)
        shared.IrradiationEventIdentificationSequence = [event]
    for groups, single in zip(per_frame, singles, strict=True):
        if "EchoTime" in single:
            echo = Dataset()
            echo.EffectiveEchoTime = float(single.EchoTime)
            groups.MREchoSequence = [echo]
        if "DiffusionBValue" in single:
            diffusion = Dataset()
            diffusion.DiffusionBValue, diffusion.DiffusionDirectionality = float(single.DiffusionBValue), "ISOTROPIC"
            if "DiffusionGradientOrientation" in single:
                direction = Dataset()
                direction.DiffusionGradientOrientation = single.DiffusionGradientOrientation
                diffusion.DiffusionDirectionality = "DIRECTIONAL"
                diffusion.DiffusionGradientDirectionSequence = [direction]
            groups.MRDiffusionSequence = [diffusion]
        if "TemporalPositionIdentifier" in single:
            groups.FrameContentSequence[0].TemporalPositionIndex = int(single.TemporalPositionIdentifier)


def pet_series(ct_or_mr: Sequence[bytes], slopes: Sequence[float]) -> list[bytes]:
    """Files of another modality as single-frame PET in Bq/mL, each slice with a slope of its own, as scanners write."""
    made = []
    for data, slope in zip(ct_or_mr, slopes, strict=True):
        dataset = dcmread(BytesIO(data))
        dataset.SOPClassUID, dataset.Modality, dataset.Units = "1.2.840.10008.5.1.4.1.1.128", "PT", "BQML"
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", "0"
        dataset.CorrectedImage = ["DECY", "ATTN"]
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        made.append(encode(dataset).data)
    return made
