"""ACS convolutions: 2D weights that look at a volume along all three axes."""

from residency.nets.acs.adjacent import AdjacentSlices
from residency.nets.acs.convert import Converted, convert, first_layer, fold, with_channels
from residency.nets.acs.operator import ACSConv3d
from residency.nets.acs.transposed import ACSConvTranspose3d

__all__ = [
    "ACSConv3d",
    "ACSConvTranspose3d",
    "AdjacentSlices",
    "Converted",
    "convert",
    "first_layer",
    "fold",
    "with_channels",
]
