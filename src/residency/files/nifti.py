"""NIfTI-1 and NIfTI-2, single file, plain or gzip: bytes <-> volumes and label arrays.

A NIfTI index is (i, j, k), its points are RAS; ours are (slice, row, column) and LPS. Slice is k, row is j and column
is i, so an array is transposed on the way, never resampled, and the affine says the same in our terms.

Which affine holds: the sform where its code is set, else the qform where its code is set (the standard's "method 3"
before "method 2", nifti1.h). A file with neither says nothing of the patient and is refused.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.errors import GeometryError, PixelError
from residency.geometry import TILT_TOLERANCE_DEGREES, Affine, lps_from_ras
from residency.volume import Grid, Space, Volume

LARGEST_IMAGE_BYTES = 2 * 1024**3
"""Most bytes of voxels that are read. A whole-body CT of 512 x 512 x 2,000 in 16 bits has half of that."""

LARGEST_OFFSET = 16 * 1024**2
"""Most bytes before the voxels: header and extensions."""

FORMS_AGREE_MM = 0.05
"""Largest distance between the corners by sform and by qform before a note says that the two differ."""

_HEADER_BYTES = {348: b"n+1\0", 540: b"n+2\0"}
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")

# NIfTI index (i, j, k) of our index (slice, row, column).
_OURS = np.eye(4)[[2, 1, 0, 3]]


def read_nifti(data: bytes) -> Volume:
    """An image, slope and intercept applied, on its grid in the patient.

    data  the whole file, gzip or not

    Raises PixelError for what is no NIfTI, is cut short, too large, not three-dimensional or not of real numbers;
    GeometryError for an affine that is missing or sheared.
    """
    found = _parse(data)
    values = found.stored
    with np.errstate(over="ignore", invalid="ignore"):
        if found.slope != 1.0 or found.intercept != 0.0:
            values = values * np.float64(found.slope) + np.float64(found.intercept)
        array = np.ascontiguousarray(values, dtype=np.float32)
    return Volume(array, found.grid, notes=found.notes)


def read_nifti_labels(data: bytes) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], Grid]:
    """A label image: whole numbers 0..65535 (slices, rows, columns), uint8 where they fit, and its grid.

    Raises PixelError where a voxel is no such number, else as `read_nifti`.
    """
    found = _parse(data)
    values = found.stored
    if found.slope != 1.0 or found.intercept != 0.0:
        values = values * np.float64(found.slope) + np.float64(found.intercept)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535) or (values.dtype.kind == "f" and (values != np.floor(values)).any()):
        raise PixelError(
            f"a label image holds whole numbers 0 to 65535, this one lies between {low} and {high}; is it an image?"
        )
    if high > 255:
        return np.ascontiguousarray(values, dtype=np.uint16), found.grid
    return np.ascontiguousarray(values, dtype=np.uint8), found.grid


def write_nifti(array: npt.NDArray[Any], grid: Grid) -> bytes:
    """A gzip NIfTI-1 file; equal arguments give equal bytes on one version of zlib (no time, no name inside).

    array  bool (written as uint8), an integer of 8, 16 or 32 bits, or float32; (slices, rows, columns) of the grid

    Sform and qform both carry the affine, with code 1 (scanner). A radiograph has no place in the patient: both codes
    are 0 there, and only the voxel size is written. Raises PixelError or GeometryError for what NIfTI cannot hold.
    """
    from nibabel.spatialimages import HeaderDataError

    if array.shape != grid.shape:
        raise GeometryError(f"an array of shape {array.shape} does not lie on a grid of shape {grid.shape}")
    stored = array.astype(np.uint8) if array.dtype == np.bool_ else array
    if stored.dtype.kind + str(stored.dtype.itemsize) not in ("u1", "i1", "u2", "i2", "u4", "i4", "f4"):
        raise PixelError(f"NIfTI is written from bool, integers up to 32 bits and float32, not {array.dtype}")
    stored = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    header = _header_class(348)(endianness="<")
    try:
        header.set_data_dtype(stored.dtype)
        header.set_data_shape(grid.shape[::-1])
    except HeaderDataError as error:
        raise PixelError(f"NIfTI cannot hold {grid.shape} voxels of {stored.dtype}: {error}") from None
    header.set_zooms(grid.spacing_mm[::-1])
    header.set_xyzt_units("mm" if grid.space is not Space.PIXELS else 0)
    if grid.space is Space.PATIENT:
        ras = lps_from_ras(grid.affine @ _OURS.T)
        header.set_sform(ras, code=1)
        header.set_qform(ras, code=1, strip_shears=True)
    header["vox_offset"] = 352
    body = header.binaryblock + bytes(4) + stored.tobytes()
    return gzip.compress(body, compresslevel=6, mtime=0)


_Stream = io.BytesIO | gzip.GzipFile


@dataclass(frozen=True, eq=False)
class _Parsed:
    stored: npt.NDArray[Any]
    slope: float
    intercept: float
    grid: Grid
    notes: tuple[str, ...]


def _parse(data: bytes) -> _Parsed:
    stream: _Stream = io.BytesIO(data)
    if data[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=io.BytesIO(data))
    header = _header(stream)
    dtype = header.get_data_dtype()
    if dtype.kind + str(dtype.itemsize) not in _KINDS or dtype.names:
        raise PixelError(f"NIfTI voxels of type {dtype} are not read; convert them to an integer or float type")
    shape = _shape(header)
    count = int(np.prod(shape, dtype=np.int64))
    offset = _offset(header)
    needed = count * dtype.itemsize
    if needed > LARGEST_IMAGE_BYTES:
        raise PixelError(f"the NIfTI file claims {needed} bytes of voxels, at most {LARGEST_IMAGE_BYTES} are read")
    _read(stream, offset - int(header["sizeof_hdr"]))
    stored = np.frombuffer(_read(stream, needed), dtype=dtype, count=count)
    grid, notes = _grid(header, shape)
    slope, intercept = header.get_slope_inter()
    return _Parsed(
        stored.reshape(shape[::-1]),
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        grid,
        notes,
    )


def _header_class(size: int) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    return Nifti1Header if size == 348 else Nifti2Header


def _header(stream: _Stream) -> Any:
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    first = _read(stream, 4)
    size = next((n for n in _HEADER_BYTES if first in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), None)
    if size is None:
        raise PixelError("this is not a NIfTI file: it does not begin with the header length 348 or 540")
    block = first + _read(stream, size - 4)
    _check_voxel_size(_header_class(size)(block, check=False))
    try:
        header = _header_class(size)(block)
        header.get_data_shape(), header.get_data_dtype(), header.get_slope_inter()
    except (WrapStructError, HeaderDataError, ValueError, KeyError) as error:
        raise PixelError(f"the NIfTI header is damaged: {error}") from None
    if bytes(header["magic"].item())[:3] != _HEADER_BYTES[size][:3]:
        raise PixelError("this is half of a NIfTI pair or an Analyze file; save it as one .nii or .nii.gz file")
    return header


def _check_voxel_size(header: Any) -> None:
    """Raises GeometryError where only the qform says where voxels lie, and a size is missing: nibabel would take 1."""
    sizes = header["pixdim"][1:4]
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) != 0 and not (sizes > 0).all():
        raise GeometryError(f"the NIfTI header gives voxels of {sizes.tolist()}; export it again with an affine")


def _shape(header: Any) -> tuple[int, int, int]:
    """(i, j, k); trailing axes of one voxel are dropped, a missing third is one."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if not 2 <= len(shape) <= 7 or any(n < 1 for n in shape) or any(n != 1 for n in shape[3:]):
        raise PixelError(f"a NIfTI image of shape {shape} is not read; three axes (one volume) are expected")
    return (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)


def _offset(header: Any) -> int:
    value, size = float(header["vox_offset"]), int(header["sizeof_hdr"])
    if not size <= value <= LARGEST_OFFSET:
        raise PixelError(
            f"the NIfTI header says that voxels begin at byte {value:g}; {size} to {LARGEST_OFFSET} is read"
        )
    return int(value)


def _read(stream: _Stream, count: int) -> bytes:
    try:
        data = stream.read(count)
    except (EOFError, OSError, zlib.error) as error:
        raise PixelError(f"the compressed NIfTI file is damaged: {error}") from None
    if len(data) != count:
        raise PixelError(f"the NIfTI file is cut short: {count} bytes were expected, {len(data)} are there")
    return data


def _grid(header: Any, shape: tuple[int, int, int]) -> tuple[Grid, tuple[str, ...]]:
    from nibabel.spatialimages import HeaderDataError

    try:
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"the NIfTI header holds no usable rotation: {error}") from None
    chosen = sform if sform is not None else qform
    if chosen is None:
        raise GeometryError(
            "the NIfTI file says nothing of its place in the patient (sform_code and qform_code are 0); "
            "export it again with an affine"
        )
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS_MM:
        raise GeometryError(f"the NIfTI file measures space in unit {unit}; 1 (m), 2 (mm) or 3 (um) is read")
    if not np.isfinite(chosen).all():
        raise GeometryError("the affine in the NIfTI header holds numbers that are not finite; export it again")
    to_mm = np.diag([_UNITS_MM[unit]] * 3 + [1.0])
    grid = Grid((shape[2], shape[1], shape[0]), lps_from_ras(to_mm @ chosen @ _OURS))
    _check_perpendicular(grid.affine)
    notes = []
    if sform is not None and qform is not None:
        other = lps_from_ras(to_mm @ qform @ _OURS)
        corner = np.array([*(n - 1 for n in grid.shape), 1.0])
        apart = max(np.abs((grid.affine - other) @ at).max() for at in (np.array([0, 0, 0, 1.0]), corner))
        if apart > FORMS_AGREE_MM:
            notes.append(f"sform and qform place the image up to {apart:.2f} mm apart; the sform was taken")
    return grid, tuple(notes)


def _check_perpendicular(affine: Affine) -> None:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(directions.T @ directions - np.eye(3)).max()
    degrees = float(np.degrees(np.arcsin(min(1.0, cosines))))
    if degrees > TILT_TOLERANCE_DEGREES:
        raise GeometryError(
            f"the axes of the NIfTI image are {degrees:.1f} degrees off a right angle; resample it first"
        )
