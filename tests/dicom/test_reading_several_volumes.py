"""Series that hold several volumes, and positions that were rounded: told by name and value, never mixed."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.dicom.stack import Placement, stack
from residency.errors import GeometryError
from residency.geometry import TILT_TOLERANCE_DEGREES
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Volume, regular_grid


def _volume(slices: int = 4, seed: int = 0, gap: float = 2.0, corner: tuple[float, float, float] = (0, 0, 0)) -> Volume:
    values = np.random.default_rng(seed).integers(0, 900, (slices, 5, 6)).astype(np.float32)
    affine = np.array(regular_grid((slices, 5, 6), (gap, 1.0, 0.5)).affine)
    affine[:3, 3] = corner
    return Volume(values, Grid((slices, 5, 6), affine, "1.2.3"))


def _edited(data: bytes, **attributes: object) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _uid(data: bytes) -> str:
    return str(pydicom.dcmread(BytesIO(data)).SOPInstanceUID)


def _two(make: Callable[..., list[bytes]], first: dict[str, object], second: dict[str, object]) -> list[bytes]:
    """Two volumes at one place in one series."""
    series = [_edited(data, **first) for data in make(_volume())]
    uid = pydicom.dcmread(BytesIO(series[0])).SeriesInstanceUID
    others = [_edited(data, SeriesInstanceUID=uid, **second) for data in make(_volume(seed=1), series="other")]
    return random.Random(2).sample([*series, *others], 8)


@pytest.mark.parametrize(
    ("make", "first", "second", "named"),
    [
        (mr_series, {"EchoTime": "2.46"}, {"EchoTime": "14.92"}, r"Echo Time: 2\.46 .*; 14\.92"),
        (mr_series, {"EchoNumbers": "1"}, {"EchoNumbers": "2"}, r"Echo Number\(s\): 1 .*; 2"),
        (mr_series, {"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}, r"Diffusion b-value: 0\.0 .*; 1000\.0"),
        (mr_series, {}, {"DiffusionBValue": 1000.0}, r"Diffusion b-value: 1000\.0 .*; none"),
        (
            mr_series,
            {"TemporalPositionIdentifier": "1"},
            {"TemporalPositionIdentifier": "2"},
            "Temporal Position Identifier: 1 .*; 2 ",
        ),
        (
            mr_series,
            {"ImageType": ["ORIGINAL", "PRIMARY", "M"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
            r"Image Type: ORIGINAL\\PRIMARY\\M .*; ORIGINAL\\PRIMARY\\P",
        ),
        (
            ct_series,
            {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]},
            {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
            r"Image Type: DERIVED\\SECONDARY\\AXIAL .*; ORIGINAL\\PRIMARY\\AXIAL",
        ),
        (mr_series, {"TriggerTime": "0"}, {"TriggerTime": "350"}, "Trigger Time: 0 .*; 350"),
        (ct_series, {"AcquisitionNumber": "1"}, {"AcquisitionNumber": "2"}, "Acquisition Number: 1 .*; 2"),
        (ct_series, {"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}, "Convolution Kernel: B30f .*; B70f"),
        (ct_series, {}, {"ContrastBolusAgent": "X"}, "Contrast/Bolus Agent: none .*; X"),
        (ct_series, {"AcquisitionTime": "101500"}, {"AcquisitionTime": "101600"}, "Acquisition Time: 101500 "),
        (
            ct_series,
            {},
            {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"], "PixelSpacing": ["1", "0.5"]},
            "Image Orientation",
        ),
    ],
)
def test_what_tells_the_volumes_apart_is_named(
    make: Callable[..., list[bytes]], first: dict[str, object], second: dict[str, object], named: str
) -> None:
    """A network that is shown two echoes as one stack of double height measures an organ that nobody has."""
    files = _two(make, first, second)
    if "ImageOrientationPatient" in second:  # the other plane's own stack
        others = [data for data in files if pydicom.dcmread(BytesIO(data)).SeriesDescription == "other"]
        moved = [_edited(data, ImagePositionPatient=["0", str(2 * k), "0"]) for k, data in enumerate(others)]
        files = [data for data in files if data not in others] + moved
    with pytest.raises(GeometryError, match=f"holds 2 volumes, told apart by {named}") as raised:
        open_series(files)
    assert any(_uid(data) in str(raised.value) for data in files)
    assert "4 images" in str(raised.value)
    assert "series of its own" in str(raised.value)
    assert read_labels(files).problem == str(raised.value)


def test_two_attributes_together_tell_a_dynamic_study_of_two_echoes_apart() -> None:
    files = []
    for time in "12":
        for echo in "12":
            attributes = {"TemporalPositionIdentifier": time, "EchoNumbers": echo}
            made = mr_series(_volume(), series=f"{time}{echo}")
            files += [_edited(data, SeriesInstanceUID="1.2.9", **attributes) for data in made]
    with pytest.raises(GeometryError, match=r"4 volumes, told apart by Temporal Position Identifier, Echo Number"):
        open_series(files)


@pytest.mark.parametrize("keyword", ["EchoTime", "DiffusionBValue", "TemporalPositionIdentifier"])
def test_frames_of_several_volumes_are_told_apart_too(keyword: str) -> None:
    values = {"DiffusionBValue": (0.0, 800.0)}.get(keyword, ("1", "2"))
    files = _two(mr_series, {keyword: values[0]}, {keyword: values[1]})
    with pytest.raises(GeometryError, match=r"holds 2 volumes, told apart by .* frame "):
        open_series([enhanced(files)])


@pytest.mark.parametrize("form", ["single frames", "enhanced"])
def test_directions_of_diffusion_are_told_apart(form: str) -> None:
    files = []
    for series, value, direction in (("a", 0.0, None), ("b", 1000.0, [1.0, 0.0, 0.0]), ("c", 1000.0, [0.0, 1.0, 0.0])):
        said = {"DiffusionBValue": value} | ({"DiffusionGradientOrientation": direction} if direction else {})
        files += [_edited(data, SeriesInstanceUID="1.2.9", **said) for data in mr_series(_volume(), series=series)]
    with pytest.raises(GeometryError, match=r"3 volumes, told apart by Diffusion Gradient Orientation: none"):
        open_series(files if form == "single frames" else [enhanced(files)])


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"ImageType": ["DERIVED", "PRIMARY", "OTHER"]}, "Image Type"),
        ({"DiffusionBValue": 500.0}, "Diffusion b-value"),
        ({"EchoNumbers": "2"}, "Echo Number"),
        ({"TemporalPositionIdentifier": "2"}, "Temporal Position Identifier"),
    ],
)
def test_halves_of_two_volumes_do_not_make_a_whole(attributes: dict[str, object], named: str) -> None:
    """Where each volume lacks what the other has, the positions alone look like one regular stack."""
    files = mr_series(_volume(6), EchoNumbers="1", TemporalPositionIdentifier="1", DiffusionBValue=0.0)
    files = [*files[:3], *(_edited(data, **attributes) for data in files[3:])]
    with pytest.raises(GeometryError, match=f"differ in what one volume shares, {named}"):
        open_series(files)
    assert named in (read_labels(files).problem or "")


def test_what_differs_from_slice_to_slice_in_any_scan_stops_nothing() -> None:
    files = [
        _edited(data, AcquisitionNumber=str(k), AcquisitionTime=f"1015{k:02}", ContentTime=f"1016{k:02}", TriggerTime=k)
        for k, data in enumerate(ct_series(_volume()))
    ]
    assert open_series(files).grid.shape == (4, 5, 6)


def test_a_gap_stays_a_gap_although_each_side_has_its_own_acquisition() -> None:
    files = ct_series(_volume(7))
    files = [_edited(data, AcquisitionNumber="1" if k < 3 else "2") for k, data in enumerate(files)]
    with pytest.raises(GeometryError, match="missing or doubled"):
        open_series(files[:3] + files[4:])


def test_a_scout_among_the_slices_is_named() -> None:
    files = ct_series(_volume())
    scout = ct_series(_volume(1), series="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[0]
    scout = _edited(
        scout,
        SeriesInstanceUID=pydicom.dcmread(BytesIO(files[0])).SeriesInstanceUID,
        ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"],
    )
    assert _uid(scout) in (read_labels([*files, scout]).problem or "")
    with pytest.raises(GeometryError, match=_uid(scout)):
        open_series([*files, scout])


@settings(max_examples=100, deadline=None)
@given(
    slices=st.integers(2, 60),
    gap=st.floats(0.4, 8.0),
    corner=st.tuples(*(st.floats(-300.0, 300.0) for _ in range(3))),
    angle=st.floats(-180.0, 180.0),
    decimals=st.integers(1, 3),
)
def test_positions_that_were_rounded_are_the_regular_grid_that_they_were(
    slices: int, gap: float, corner: tuple[float, float, float], angle: float, decimals: int
) -> None:
    rotation = Rotation.from_euler("yxz", [angle, 0.7 * angle, 20.0], degrees=True).as_matrix()
    row, column, normal = rotation.T
    true = [np.array(corner) + k * gap * normal for k in range(slices)]
    placements = [
        Placement(
            uid=f"1.{k}",
            rows=5,
            columns=6,
            spacing_mm=(1.0, 0.5),
            position=tuple(round(float(v), decimals) for v in position),  # type: ignore[arg-type]
            orientation=(*row, *column),
            frame_of_reference="1.2",
            extent_mm=gap,
            unit_mm=10.0**-decimals,
        )
        for k, position in enumerate(true)
    ]
    half = 0.5 * 10.0**-decimals
    try:
        grid = stack(placements).grid
    except GeometryError as error:
        # Coarse positions of few thin slices may show a tilt that was not there; that is refused, never bent.
        assert "sheared" in str(error)  # noqa: PT017
        assert np.degrees(np.arctan(4 * half / (gap * (slices - 1)))) > TILT_TOLERANCE_DEGREES
        return
    for k in (0, slices // 2, slices - 1):
        assert np.abs(np.array(grid.to_lps((k, 0, 0))) - true[k]).max() <= 2 * half + 1e-6


def _at(*heights: str) -> list[bytes]:
    return [
        _edited(data, ImagePositionPatient=["0", "0", height])
        for data, height in zip(mr_series(_volume(len(heights))), heights, strict=True)
    ]


def test_rounding_that_had_to_be_assumed_is_told() -> None:
    """Slices 1/3 mm apart whose positions were written with one decimal."""
    read = open_series(_at("0", "0.3", "0.7", "1", "1.3", "1.7", "2"))
    assert read.grid.spacing_mm[0] == pytest.approx(1 / 3, abs=0.02)
    assert read.volume().notes == ("positions rounded to 0.1 mm: slices taken as evenly spaced",)
    assert open_series(_at("0", "0.3", "0.6", "0.9")).volume().notes == ()


@pytest.mark.parametrize(
    "heights",
    [
        ("0", "0.3", "0.7", "1.2", "1.3"),
        ("0", "1", "2", "3.2", "4"),
        ("0", "1", "2", "4", "5"),
        ("0", "1", "3", "4", "6"),
        ("0.00", "0.30", "0.73", "1.00"),
    ],
)
def test_what_no_rounding_explains_is_refused(heights: tuple[str, ...]) -> None:
    with pytest.raises(GeometryError, match="missing or doubled"):
        open_series(_at(*heights))


def test_a_rounded_stack_that_is_sheared_is_refused_all_the_same() -> None:
    files = [
        _edited(data, ImagePositionPatient=["0", f"{0.1 * k:.1f}", height])
        for k, (data, height) in enumerate(zip(mr_series(_volume(4)), ("0", "0.3", "0.7", "1"), strict=True))
    ]
    with pytest.raises(GeometryError, match=r"missing or doubled|sheared"):
        open_series(files)


def test_old_series_without_frame_of_reference_are_read_without_one() -> None:
    files = [_edited(data, FrameOfReferenceUID=None) for data in mr_series(_volume())]
    assert open_series(files).grid.frame_of_reference is None
    assert read_labels(files).problem is None


def test_a_radiograph_whose_brightness_is_contradicted_is_refused() -> None:
    image = np.arange(24, dtype=np.uint16).reshape(4, 6)
    for inverse, shape in ((True, "IDENTITY"), (False, "INVERSE")):
        data = radiograph(image, inverse=inverse, PresentationLUTShape=shape)
        assert "contradict" in (read_labels([data]).problem or "")


def test_a_radiograph_for_processing_says_so() -> None:
    image = np.arange(24, dtype=np.uint16).reshape(4, 6)
    data = radiograph(image, SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1", PresentationIntentType="FOR PROCESSING")
    assert open_series([data]).volume().notes == (
        "for processing: values of the detector, not as a radiograph is shown",
    )


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.94"])
def test_labels_name_a_transfer_syntax_that_is_not_read(syntax: str) -> None:
    """Else a network is chosen for a series that then cannot be opened."""
    dataset = pydicom.dcmread(BytesIO(mr_series(_volume(1))[0]))
    dataset.file_meta.TransferSyntaxUID = syntax
    del dataset.PixelData
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset, implicit_vr=False, little_endian=True)
    problem = read_labels([stream.getvalue()]).problem
    assert problem is not None
    assert syntax in problem
