"""Enhanced multi-frame images, frame by frame, each as the single-frame image that it would be (DICOM PS3.3 C.7.6.16).

What a single-frame image says at its top, a multi-frame one says in functional groups, shared by all frames or for each
of them. Here they are lifted to the top again, so that everything else in this room reads one kind of header. Frames
are told apart and ordered by what they say of themselves, never by their index.
"""

from __future__ import annotations

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from residency.dicom.dataset import (
    PIXEL_TAGS,
    integer,
    items,
    sop_uid,
    text,
    texts,
)
from residency.dicom.kinds import MULTI_FRAME_CLASSES
from residency.errors import InputError

_FRAME_TYPE = ("FrameType", "AcquisitionContrast", "ComplexImageComponent")
_CONVERTED = (
    "AcquisitionTime",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "Laterality",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceVariant",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "Units",
)
_GROUPS = {
    "UnassignedSharedConvertedAttributesSequence": _CONVERTED,
    "UnassignedPerFrameConvertedAttributesSequence": _CONVERTED,
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("StackID", "TemporalPositionIndex", "FrameAcquisitionNumber"),
    "FrameAnatomySequence": ("AnatomicRegionSequence", "FrameLaterality"),
    "CTImageFrameTypeSequence": _FRAME_TYPE,
    "MRImageFrameTypeSequence": _FRAME_TYPE,
    "PETFrameTypeSequence": _FRAME_TYPE,
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRDiffusionSequence": ("DiffusionBValue", "DiffusionDirectionality"),
    "MRDiffusionSequence/DiffusionGradientDirectionSequence": ("DiffusionGradientOrientation",),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "CardiacSynchronizationSequence": ("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime"),
    "RespiratorySynchronizationSequence": ("NominalPercentageOfRespiratoryPhase",),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "CTXRayDetailsSequence": ("KVP",),
}
"""Attributes that are lifted, by the functional group, or the sequence within it, that holds them (PS3.3 C.7.6.16.2,
C.8.13.5, C.8.15.3)."""

_SINGLE = {"FrameType": "ImageType", "EffectiveEchoTime": "EchoTime", "FrameAcquisitionNumber": "AcquisitionNumber"}
"""What a single-frame image calls it."""

_PER_FRAME_ONLY = frozenset(
    Tag(keyword) for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames")
)

Elements = dict[BaseTag, DataElement | RawDataElement]


def is_multi_frame(dataset: Dataset) -> bool:
    """True for images whose frames have functional groups and may be slices of a volume."""
    return text(dataset, "SOPClassUID") in MULTI_FRAME_CLASSES


def frame_headers(dataset: Dataset) -> tuple[Dataset, ...]:
    """The header of every frame in the order of the file, as a single-frame image would have it; without Pixel Data.

    Raises InputError where the functional groups are missing or are not those of as many frames as there are.
    """
    uid = sop_uid(dataset)
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        raise InputError(
            f"instance {uid} has no Per-Frame Functional Groups: where its frames lie is not said. Export it again, "
            "or as single frames"
        )
    count = integer(dataset, "NumberOfFrames")
    if count != len(groups):
        raise InputError(
            f"instance {uid} says that it has {count} frames, and describes {len(groups)}. Export it again"
        )
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    top = {tag: element for tag, element in dataset.items() if tag not in PIXEL_TAGS and tag not in _PER_FRAME_ONLY}
    common = {**top, **_lifted(shared)}
    return tuple(_header(dataset, {**common, **_lifted(group)}) for group in groups)


def _lifted(group: Dataset) -> Elements:
    """Elements of one item of functional groups, under the tags of a single-frame image."""
    found: Elements = {}
    for sequence, keywords in _GROUPS.items():
        for item in _first(group, *sequence.split("/")):
            for keyword in keywords:
                if keyword not in item:
                    continue
                name = _SINGLE.get(keyword, keyword)
                element = item.get_item(keyword) if name == keyword else _renamed(item, keyword, name)
                if isinstance(element, DataElement | RawDataElement):
                    found[Tag(name)] = element
    return found


def _first(group: Dataset, sequence: str, *inner: str) -> tuple[Dataset, ...]:
    """The first item of a sequence within sequences; () where there is none."""
    found = items(group, sequence)[:1]
    return _first(found[0], *inner) if found and inner else found


def _renamed(item: Dataset, keyword: str, name: str) -> DataElement:
    return DataElement(Tag(name), dictionary_VR(name), list(texts(item, keyword)), validation_mode=config.IGNORE)


def _header(dataset: Dataset, elements: Elements) -> Dataset:
    found = Dataset(elements)
    implicit, little = dataset.original_encoding
    found.set_original_encoding(implicit, little, dataset.original_character_set)
    found.file_meta = dataset.file_meta
    return found
