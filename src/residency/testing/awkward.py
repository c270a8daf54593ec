"""Series with something rare or wrong in them, made of phantoms: each is read exactly or refused with a reason.

What archives really hold, one trap a case: orders, places, spacings, several volumes in one series, pixels, encodings,
frames, identities. The reference page on awkward images shows what becomes of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from residency.testing.enhanced import enhanced, pet_series
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Volume, regular_grid

Files = list[bytes]

_PLANES: dict[str, tuple[tuple[float, float, float], ...]] = {
    # Steps of one slice, row and column in the patient (LPS), before the picture is turned in its plane.
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "oblique": ((0.36, 0.48, 0.8), (-0.8, 0.6, 0), (0.48, 0.64, -0.6)),
}


def cases() -> Mapping[str, Callable[[], Files]]:
    """Every case by what is awkward about it; called, it gives the files of one series."""
    return {
        **_places(),
        **_gaps(),
        **_several(),
        **_pixels(),
        **_radiographs(),
        **_encodings(),
        **_multi_frame(),
        **_identities(),
    }


def _volume(slices: int = 4, seed: int = 0, gap: float = 2.0) -> Volume:
    values = np.random.default_rng(seed).integers(0, 900, (slices, 5, 6)).astype(np.float32)
    return Volume(values, regular_grid((slices, 5, 6), (gap, 1.0, 0.5), frame_of_reference="1.2.3"))


def _edited(data: bytes, **attributes: Any) -> bytes:
    dataset = dcmread(BytesIO(data))
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return _written(dataset)


def _written(dataset: Dataset, syntax: str | None = None) -> bytes:
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    dataset.file_meta.TransferSyntaxUID = UID(syntax or dataset.file_meta.TransferSyntaxUID)
    stream = BytesIO()
    dcmwrite(stream, dataset)
    return stream.getvalue()


def _at(*positions: tuple[str, str, str], **attributes: Any) -> Files:
    """An MR series whose slices lie where they are told to."""
    made = mr_series(_volume(len(positions)), **attributes)
    return [_edited(data, ImagePositionPatient=list(p)) for data, p in zip(made, positions, strict=True)]


def _heights(*heights: str) -> Files:
    return _at(*(("0", "0", height) for height in heights))


def _turned(plane: str, quarters: int) -> Files:
    """A volume without symmetry in a plane, its picture turned by quarters of a circle."""
    slice_step, row_step, column_step = (np.array(v, dtype=np.float64) for v in _PLANES[plane])
    for _ in range(quarters):
        row_step, column_step = -column_step, row_step
    affine = np.eye(4)
    affine[:3, :3] = np.stack([2.5 * slice_step, 1.0 * row_step, 0.7 * column_step], axis=1)
    affine[:3, 3] = (-31.0, 12.0, 7.5)
    return mr_series(Volume(_volume().array, Grid((4, 5, 6), affine, "1.2.3")))


def _places() -> dict[str, Callable[[], Files]]:
    turned = {
        f"{plane} slices, picture turned by {90 * quarters} degrees": lambda p=plane, q=quarters: _turned(p, q)
        for plane in _PLANES
        for quarters in range(4)
    }
    return {
        **turned,
        "files in another order than slices, Instance Number reversed": lambda: [
            _edited(data, InstanceNumber=9 - k) for k, data in enumerate(ct_series(_volume()))
        ][::-1],
        "Slice Thickness and Spacing Between Slices that contradict the positions": lambda: [
            _edited(data, SliceThickness="7", SpacingBetweenSlices="-3.3") for data in ct_series(_volume())
        ],
        "pixels that are not square": lambda: mr_series(
            Volume(_volume().array, regular_grid((4, 5, 6), (3.0, 4.0, 0.5), frame_of_reference="1.2.3"))
        ),
        "two spellings of one orientation": lambda: [
            *mr_series(_volume())[:2],
            *(
                _edited(data, ImageOrientationPatient=["0.999999", "0.000001", "0", "0", "1", "0.000001"])
                for data in mr_series(_volume())[2:]
            ),
        ],
        "positions rounded to 0.1 mm, slices 1/3 mm apart": lambda: _heights("0", "0.3", "0.7", "1", "1.3", "1.7"),
        "no Frame of Reference UID": lambda: mr_series(_volume(), FrameOfReferenceUID=None),
        "one slice": lambda: mr_series(_volume(1)),
        "one slice without Slice Thickness": lambda: mr_series(_volume(1), SliceThickness=None),
        "one voxel": lambda: mr_series(Volume(np.ones((1, 1, 1), np.float32), regular_grid((1, 1, 1), (1, 1, 1)))),
        "a matrix of 3072 x 3072": lambda: [radiograph(_gradient(3072))],
        "no Image Position": lambda: [
            *mr_series(_volume())[:3],
            _edited(mr_series(_volume())[3], ImagePositionPatient=None),
        ],
        "no Pixel Spacing": lambda: mr_series(_volume(), PixelSpacing=None),
        "an orientation that is none": lambda: mr_series(
            _volume(), ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]
        ),
        "a slice 1e300 mm away": lambda: _heights("0", "2", "4", "1e300"),
    }


def _gradient(side: int) -> npt.NDArray[np.uint16]:
    return (np.add.outer(np.arange(side), np.arange(side)) % 4096).astype(np.uint16)


def _gaps() -> dict[str, Callable[[], Files]]:
    def tilted(degrees: float) -> Files:
        step = 2.0 * np.tan(np.deg2rad(degrees))
        return _at(*(("0", f"{step * k:.6f}", f"{2 * k}") for k in range(4)), GantryDetectorTilt="0")

    return {
        "gantry tilt of 20 degrees, tag says 0": lambda: tilted(20.0),
        "gantry tilt of 0.3 degrees": lambda: tilted(0.3),
        "a slice is missing": lambda: _heights("0", "2", "4", "8", "10"),
        "a slice is there twice": lambda: _heights("0", "2", "4", "4", "6"),
        "uneven spacing": lambda: _heights("0", "2", "4", "6.3", "8.3"),
        "a slice off the line of the others": lambda: _at(("0", "0", "0"), ("3", "0", "2"), ("0", "0", "4")),
    }


def _two(make: Callable[..., Files], first: dict[str, Any], second: dict[str, Any]) -> Files:
    """Two volumes at one place in one series."""
    others = make(_volume(seed=1), series="other")
    one = [_edited(data, SeriesInstanceUID="1.2.9", **first) for data in make(_volume())]
    return one + [_edited(data, SeriesInstanceUID="1.2.9", **second) for data in others]


def _several() -> dict[str, Callable[[], Files]]:
    pairs: dict[str, tuple[Callable[..., Files], str, Any, Any]] = {
        "two echoes": (mr_series, "EchoTime", "2.46", "14.9"),
        "two temporal positions": (mr_series, "TemporalPositionIdentifier", "1", "2"),
        "two cardiac phases": (mr_series, "TriggerTime", "0", "350"),
        "two b-values": (mr_series, "DiffusionBValue", 0.0, 1000.0),
        "magnitude and phase": (mr_series, "ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
        "original and derived": (
            ct_series,
            "ImageType",
            ["ORIGINAL", "PRIMARY", "AXIAL"],
            ["DERIVED", "SECONDARY", "AXIAL"],
        ),
        "two acquisitions": (ct_series, "AcquisitionNumber", "1", "2"),
        "two kernels": (ct_series, "ConvolutionKernel", "B30f", "B70f"),
    }
    held = {
        f"{name} in one series": lambda m=make, k=keyword, a=first, b=second: _two(m, {k: a}, {k: b})
        for name, (make, keyword, first, second) in pairs.items()
    }

    def crossed() -> Files:
        files = _two(mr_series, {}, {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]})
        return files[:4] + [_edited(d, ImagePositionPatient=["0", str(2 * k), "0"]) for k, d in enumerate(files[4:])]

    def scout() -> Files:
        files = crossed()
        return [*files[:4], _edited(files[4], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])]

    return {
        **held,
        "two orientations in one series": crossed,
        "a localiser among the slices": scout,
        "halves of two echoes that together look like one stack": lambda: [
            _edited(data, EchoNumbers="1" if k < 2 else "2") for k, data in enumerate(mr_series(_volume()))
        ],
        "two matrices in one series": lambda: [
            *mr_series(_volume())[:3],
            _edited(mr_series(_volume())[3], Rows=3, Columns=10),
        ],
    }


def _pixels() -> dict[str, Callable[[], Files]]:
    def dirty() -> Files:
        (data,) = mr_series(_volume(1))
        words = np.frombuffer(dcmread(BytesIO(data)).PixelData, "<u2") | 0x7000
        return [_edited(data, BitsStored=12, HighBit=11, PixelRepresentation=0, PixelData=words.tobytes())]

    def eight_bits() -> Files:
        (data,) = mr_series(_volume(1))
        values = (np.arange(30) * 8).astype(np.uint8).tobytes()
        eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
        return [_edited(data, PixelData=values, **eight)]

    def table() -> Files:
        item = Dataset()
        item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [2, 0, 16], "HU", b"\0\0\1\0"
        return [_edited(ct_series(_volume(1))[0], RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=[item])]

    return {
        "slope of each slice its own (PET)": lambda: pet_series(mr_series(_volume()), [0.5, 1.25, 3.0, 0.01]),
        "signed pixels of 12 bits": lambda: mr_series(
            Volume(_volume().array - 450, _volume().grid), BitsStored=12, HighBit=11
        ),
        "dirt above Bits Stored": dirty,
        "8 bits": eight_bits,
        "Pixel Padding Value outside the picture": lambda: ct_series(_volume(), PixelPaddingValue=0),
        "window and VOI LUT, which are no part of the values": lambda: ct_series(
            _volume(), WindowCenter="40", WindowWidth="80"
        ),
        "CT without Rescale Slope and Intercept": lambda: ct_series(
            _volume(), RescaleSlope=None, RescaleIntercept=None
        ),
        "Rescale Slope 0": lambda: mr_series(_volume(), RescaleSlope="0", RescaleIntercept="0"),
        "a table instead of a slope (Modality LUT)": table,
        "Pixel Data cut short": lambda: [_edited(mr_series(_volume(1))[0], PixelData=b"\0" * 58)],
        "Rows and Columns 65535, with 60 bytes of pixels": lambda: mr_series(_volume(1), Rows=65535, Columns=65535),
        "colour": lambda: mr_series(
            _volume(1), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
        ),
    }


def _radiographs() -> dict[str, Callable[[], Files]]:
    image = _gradient(32)
    capture: dict[str, Any] = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "CR"}
    processing: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1",
        "PresentationIntentType": "FOR PROCESSING",
    }
    return {
        "radiograph": lambda: [radiograph(image)],
        "radiograph, MONOCHROME1": lambda: [radiograph(image, inverse=True)],
        "radiograph without spacing": lambda: [radiograph(image, spacing_mm=None)],
        "radiograph as Secondary Capture": lambda: [radiograph(image, **capture)],
        "radiograph for processing": lambda: [radiograph(image, **processing)],
        "MONOCHROME1 with Presentation LUT Shape IDENTITY": lambda: [
            radiograph(image, inverse=True, PresentationLUTShape="IDENTITY")
        ],
        "two radiographs in one series": lambda: [
            radiograph(image),
            _edited(radiograph(image), SOPInstanceUID="1.2.3.4"),
        ],
    }


def _encodings() -> dict[str, Callable[[], Files]]:
    values = np.random.default_rng(0).integers(0, 900, (2, 64, 48)).astype(np.float32)
    volume = Volume(values, regular_grid((2, 64, 48), (2.0, 1.0, 0.5), frame_of_reference="1.2.3"))

    def compressed(syntax: str, **options: Any) -> Files:
        made = []
        for data in ct_series(volume):
            dataset = dcmread(BytesIO(data))
            dataset.compress(UID(syntax), generate_instance_uid=False, **options)
            made.append(_written(dataset))
        return made

    def plain(syntax: str) -> Files:
        made = []
        for data in ct_series(volume):
            dataset = dcmread(BytesIO(data))
            uid = UID(syntax)
            if not uid.is_little_endian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset.file_meta.TransferSyntaxUID = uid
            stream = BytesIO()
            dcmwrite(stream, dataset, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
            made.append(stream.getvalue())
        return made

    return {
        "Implicit VR Little Endian": lambda: plain("1.2.840.10008.1.2"),
        "Explicit VR Big Endian": lambda: plain("1.2.840.10008.1.2.2"),
        "Deflated Explicit VR Little Endian": lambda: plain("1.2.840.10008.1.2.1.99"),
        "RLE Lossless": lambda: compressed("1.2.840.10008.1.2.5"),
        "JPEG-LS lossless": lambda: compressed("1.2.840.10008.1.2.4.80"),
        "JPEG-LS near-lossless": lambda: compressed("1.2.840.10008.1.2.4.81", jls_error=3),
        "JPEG 2000 lossless": lambda: compressed("1.2.840.10008.1.2.4.90"),
        "JPEG 2000 lossy": lambda: compressed("1.2.840.10008.1.2.4.91", j2k_cr=[4]),
        "a video (MPEG-4)": lambda: [_video(mr_series(_volume(1))[0])],
    }


def _video(data: bytes) -> bytes:
    dataset = dcmread(BytesIO(data))
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    return _written(dataset, "1.2.840.10008.1.2.4.102")


def _multi_frame() -> dict[str, Callable[[], Files]]:
    def without_groups() -> Files:
        dataset = dcmread(BytesIO(enhanced(mr_series(_volume()))))
        del dataset.PerFrameFunctionalGroupsSequence
        return [_written(dataset)]

    return {
        "Enhanced CT, frames in reverse": lambda: [enhanced(ct_series(_volume())[::-1])],
        "Enhanced MR, frames in disorder": lambda: [enhanced([mr_series(_volume())[k] for k in (2, 0, 3, 1)])],
        "Enhanced PET, slope of each frame its own": lambda: [
            enhanced(pet_series(mr_series(_volume()), [0.5, 1.25, 3.0, 0.01]))
        ],
        "one volume over two enhanced instances": lambda: [
            enhanced(mr_series(_volume())[::2]),
            enhanced(mr_series(_volume())[1::2]),
        ],
        "Enhanced MR with two echoes": lambda: [enhanced(_two(mr_series, {"EchoTime": "2"}, {"EchoTime": "9"}))],
        "Enhanced MR, no place for its frames": without_groups,
        "Enhanced MR that claims 2,000,000,000 frames": lambda: [
            enhanced(mr_series(_volume()), NumberOfFrames=2_000_000_000)
        ],
    }


def _identities() -> dict[str, Callable[[], Files]]:
    def latin_without_saying_so() -> Files:
        return [data.replace(b"Phantom^Test", b"Phant\xf6m^Test") for data in mr_series(_volume())]

    return {
        "emptied UIDs": lambda: [_edited(mr_series(_volume(1))[0], StudyInstanceUID="", SeriesInstanceUID="")],
        "a UID of 70 characters": lambda: mr_series(_volume(1), StudyInstanceUID="1." + "2" * 68),
        "a UID with a leading zero": lambda: mr_series(_volume(), StudyInstanceUID="1.02.3"),
        "a name with bytes beyond ASCII and no Specific Character Set": latin_without_saying_so,
        "one instance twice": lambda: [*mr_series(_volume()), mr_series(_volume())[0]],
        "two patients in one series": lambda: [
            *mr_series(_volume())[:2],
            *(_edited(data, PatientID="OTHER") for data in mr_series(_volume())[2:]),
        ],
    }
