"""Synthetic series as DICOM bytes: what a test, a demo or another's adapter needs and no person was ever scanned for.

Bytes and UIDs depend on the arguments alone. Type 1 and 2 attributes of the IODs are there (PS3.3 A.3, A.4, A.26), so
that validators find no error in them; any attribute can be overridden, added or, with None, taken out by its keyword.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from residency.dicom.part10 import encode
from residency.dicom.uids import derived_uid
from residency.dicom.wording import character_set, decimal
from residency.volume import Volume

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"

MANUFACTURER = "Phantom works"
"""Maker of all phantoms; not the one of Residency's results, which are never taken for input."""

Stored = npt.NDArray[np.integer]


def mr_series(volume: Volume, *, study: str = "study", series: str = "mr", **attributes: object) -> list[bytes]:
    """A single-frame MR series, one instance a slice in the order of the volume's slices.

    volume      whole numbers from -32,768 to 32,767, in patient space; its slices must be upright on each other, in
                either direction
    study       name of the study: series made with the same name and Patient ID belong together
    series      name of the series within the study
    attributes  by DICOM keyword, for every instance; None takes the attribute out

    Raises ValueError where the volume cannot be written exactly.
    """
    stored = _stored(volume.array, np.int16)
    common = _common("MR", MR_IMAGE, volume, study, series, attributes)
    common.ScanningSequence, common.SequenceVariant, common.ScanOptions = ["GR", "IR"], "NONE", ""
    common.MRAcquisitionType = "3D"
    common.RepetitionTime, common.EchoTime, common.InversionTime = "2000", "3", "900"
    common.EchoTrainLength, common.FlipAngle, common.MagneticFieldStrength = "1", "9", "1.5"
    common.BodyPartExamined = "BRAIN"
    return _slices(common, volume, stored, attributes)


def ct_series(volume: Volume, *, study: str = "study", series: str = "ct", **attributes: object) -> list[bytes]:
    """A single-frame CT series of HU (whole numbers from -1,024 to 64,511), stored unsigned with intercept -1024.

    Arguments and errors as `mr_series`.
    """
    stored = _stored(volume.array.astype(np.float64) + 1024.0, np.uint16)
    common = _common("CT", CT_IMAGE, volume, study, series, attributes)
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = "1", "-1024", "HU"
    common.KVP, common.AcquisitionNumber = "120", "1"
    common.BodyPartExamined = "ABDOMEN"
    return _slices(common, volume, stored, attributes)


def radiograph(
    image: npt.NDArray[np.uint16],
    *,
    spacing_mm: tuple[float, float] | None = (0.2, 0.2),
    inverse: bool = False,
    study: str = "study",
    series: str = "dx",
    **attributes: object,
) -> bytes:
    """A digital radiograph (DX for presentation), 12 bits.

    image       uint16, (rows, columns), 0 to 4,095, bright = dense
    spacing_mm  (row, column) on the detector; None leaves it out (which DX does not allow, but archives hold)
    inverse     True stores it as MONOCHROME1
    """
    if image.ndim != 2 or image.dtype != np.uint16 or int(image.max()) > 4095:
        raise ValueError("a radiograph is made from uint16 values up to 4095 in rows and columns")
    modality, identity = "DX", _digest(image.tobytes(), image.shape, spacing_mm, inverse, attributes)
    common = _entities(modality, DIGITAL_X_RAY, (study, series, identity), attributes)
    common.ImageType = ["ORIGINAL", "PRIMARY", ""]
    common.PresentationIntentType, common.PixelIntensityRelationship = "FOR PRESENTATION", "LOG"
    common.PixelIntensityRelationshipSign = 1 if inverse else -1
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = "1", "0", "US"
    common.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    common.LossyImageCompression, common.BurnedInAnnotation = "00", "NO"
    common.WindowCenter, common.WindowWidth = "2048", "4096"
    common.DetectorType, common.PositionerType, common.ViewPosition = "DIRECT", "", "PA"
    common.PatientOrientation, common.ImageLaterality = ["L", "F"], "U"
    common.BodyPartExamined = "CHEST"
    common.AnatomicRegionSequence = [_code("SCT", "816094009", "Chest")]
    common.ViewCodeSequence = [_code("SCT", "399348003", "postero-anterior")]
    common.ViewCodeSequence[0].ViewModifierCodeSequence = []
    common.AcquisitionContextSequence = []
    if spacing_mm is not None:
        common.ImagerPixelSpacing = [decimal(v) for v in spacing_mm]
    stored = (4095 - image).astype(np.uint16) if inverse else image
    instance = _with_pixels(common, stored, "MONOCHROME1" if inverse else "MONOCHROME2", bits=12)
    instance.SOPInstanceUID = derived_uid("phantom", study, series, identity, "1")
    instance.InstanceNumber = "1"
    return _finish(instance, attributes)


def _stored(values: npt.NDArray[np.floating], kind: type[np.int16] | type[np.uint16]) -> Stored:
    limits = np.iinfo(kind)
    if not np.array_equal(values, np.round(values)) or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(f"a phantom holds whole numbers that fit {limits.dtype}; round and clip the volume first")
    return values.astype(kind)


def _common(
    modality: str, sop_class: str, volume: Volume, study: str, series: str, attributes: dict[str, object]
) -> Dataset:
    """What all slices of a series share."""
    grid = volume.grid
    identity = _digest(volume.array.tobytes(), grid.shape, grid.affine.tolist(), grid.frame_of_reference, attributes)
    common = _entities(modality, sop_class, (study, series, identity), attributes)
    steps = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    if abs(abs(float(np.cross(steps[:, 2], steps[:, 1]) @ steps[:, 0])) - 1.0) > 1e-6:
        raise ValueError("slices that are not upright on each other make no DICOM series of one orientation")
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "OTHER"]
    common.FrameOfReferenceUID = grid.frame_of_reference or derived_uid("phantom", "frame", study, series, identity)
    common.PositionReferenceIndicator = ""
    common.PatientPosition = "HFS"
    common.PixelSpacing = [decimal(grid.spacing_mm[1]), decimal(grid.spacing_mm[2])]
    common.ImageOrientationPatient = [decimal(v) for v in (*steps[:, 2], *steps[:, 1])]
    common.SliceThickness = decimal(grid.spacing_mm[0])
    return common


def _entities(modality: str, sop_class: str, names: tuple[str, str, str], attributes: dict[str, object]) -> Dataset:
    """Patient, study, series and equipment. names: study, series, digest of the content."""
    study, series, identity = names
    found = Dataset()
    found.SOPClassUID = sop_class
    found.PatientName, found.PatientID = "Phantom^Test", "PHANTOM-1"
    found.PatientBirthDate, found.PatientSex = "", "O"
    patient = str(attributes.get("PatientID", found.PatientID))
    found.StudyInstanceUID = derived_uid("phantom", "study", patient, study)
    found.StudyDate, found.StudyTime, found.StudyID = "20200102", "030405", "1"
    found.AccessionNumber = found.ReferringPhysicianName = ""
    found.StudyDescription = study
    found.SeriesInstanceUID = derived_uid("phantom", "series", patient, study, series, identity)
    found.SeriesNumber, found.SeriesDescription, found.Modality = "1", series, modality
    found.SeriesDate, found.SeriesTime = "20200102", "030405"
    found.ContentDate, found.ContentTime = "20200102", "030405"
    found.Manufacturer, found.ManufacturerModelName = MANUFACTURER, "Phantom"
    found.DeviceSerialNumber, found.SoftwareVersions = "1", "1"
    return found


def _slices(common: Dataset, volume: Volume, stored: Stored, attributes: dict[str, object]) -> list[bytes]:
    """One instance a slice."""
    made = []
    for k, pixels in enumerate(stored):
        instance = _with_pixels(common, pixels, "MONOCHROME2", bits=16)
        instance.ImagePositionPatient = [decimal(v) for v in volume.grid.to_lps((k, 0, 0))]
        instance.SOPInstanceUID = derived_uid("phantom", common.SeriesInstanceUID, str(k))
        instance.InstanceNumber = str(k + 1)
        made.append(_finish(instance, attributes))
    return made


def _with_pixels(common: Dataset, pixels: npt.NDArray[np.integer], photometric: str, *, bits: int) -> Dataset:
    found = Dataset()
    found.update(common)
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, photometric
    found.Rows, found.Columns = pixels.shape
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, bits, bits - 1
    found.PixelRepresentation = int(pixels.dtype == np.int16)
    found.PixelData = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"))).tobytes()
    found["PixelData"].VR = "OW"
    return found


def _finish(instance: Dataset, attributes: dict[str, object]) -> bytes:
    for keyword, value in attributes.items():
        if value is not None:
            setattr(instance, keyword, value)
        elif keyword in instance:
            delattr(instance, keyword)
    if "SpecificCharacterSet" not in attributes and (terms := character_set(instance, ())):
        instance.SpecificCharacterSet = terms
    return encode(instance).data


def _code(scheme: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _digest(*parts: object) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else repr(_plain(part)).encode())
        found.update(b"\x1f")
    return found.hexdigest()


def _plain(part: object) -> object:
    """Something whose repr tells its content: data sets among the attributes say theirs as JSON."""
    if isinstance(part, dict):
        return sorted((key, _plain(value)) for key, value in part.items())
    if isinstance(part, Dataset):
        return part.to_json()
    return [_plain(v) for v in part] if isinstance(part, Sequence) and not isinstance(part, str) else part
