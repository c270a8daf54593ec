"""Grey pictures as images: PNG and JPEG of radiographs, as collections for teaching and research hold them.

A picture says nothing of millimetres or of the patient: its grid is one slice in pixels.
"""

from __future__ import annotations

import io
import warnings

import numpy as np

from residency.errors import PixelError
from residency.volume import Grid, Space, Volume

LARGEST_PHOTOGRAPH = 100_000_000
"""Most pixels that are read. The largest detectors have a quarter of that."""

_GREY = {"1", "L", "I;16", "I;16L", "I;16B", "I"}
_COLOUR = {"RGB", "RGBA", "LA", "P"}


def read_photograph(data: bytes) -> Volume:
    """float32 (1, rows, columns), values as they are stored: 0..255, or 0..65535 of 16 bits.

    data  the whole file, PNG or JPEG; a coloured one is read where all its pixels are grey

    Raises PixelError for what is neither, is damaged, too large, in colours or partly transparent.
    """
    from PIL import Image as Pictures

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures; the bound below is ours
        try:
            picture: Pictures.Image = Pictures.open(io.BytesIO(data), formats=("PNG", "JPEG"))
            columns, rows = picture.size
            if rows * columns > LARGEST_PHOTOGRAPH:
                raise PixelError(f"the picture has {rows} x {columns} pixels; at most {LARGEST_PHOTOGRAPH} are read")
            if picture.mode not in _GREY | _COLOUR:
                raise PixelError(f"a picture of mode {picture.mode} is not read; save it as a grey PNG")
            if picture.mode in _COLOUR:
                picture = picture.convert("RGBA")
            values = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, EOFError, Pictures.DecompressionBombError) as error:
            raise PixelError(f"this is no whole PNG or JPEG picture: {error}") from None
    if values.ndim == 3:
        if (values[..., 3] != 255).any() or (values[..., :1] != values[..., 1:3]).any():
            raise PixelError("the picture has colours or is partly transparent; save it as a grey PNG")
        values = values[..., 0]
    array = np.ascontiguousarray(values[None], dtype=np.float32)
    return Volume(array, Grid(array.shape, np.eye(4), space=Space.PIXELS))
