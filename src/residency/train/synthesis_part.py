"""The training file's `synthesis`: images made while training goes on. Without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from residency.train.part import Part, Share

AtLeastNothing = Annotated[float, Field(ge=0)]


class SynthesisPart(Part):
    """Training crops of contrasts, scanners and faults that the data do not show; see `residency.train.synthesis`.

    painted        share of the crops painted anew from the regions of the reference, each with an intensity drawn at
                   random: a net that sees many contrasts depends on none. The regions are the values of the reference
                   before `data.merge` puts them together
    outside        regions that the part of the body outside the reference is divided into, by its intensity
    toned          share of the other crops whose intensities go through a tone curve drawn at random, rising or falling
    lesions        most lesions put inside the reference in a crop; their number is drawn from 0 to this
    lesion_voxels  largest radius of one
    bias           strength of the uneven light of a coil: largest standard deviation of its logarithm
    blur_voxels    largest standard deviation of the blur
    thick_voxels   largest thickness of slices, along an axis drawn at random; 1 leaves them
    grain          largest standard deviation of noise, as a share of the range of intensities
    """

    painted: Share = 0.0
    outside: Annotated[int, Field(ge=1, le=16)] = 4
    toned: Share = 0.0
    lesions: Annotated[int, Field(ge=0, le=16)] = 0
    lesion_voxels: Annotated[float, Field(ge=1, le=64)] = 8.0
    bias: AtLeastNothing = 0.0
    blur_voxels: Annotated[float, Field(ge=0, le=8)] = 0.0
    thick_voxels: Annotated[float, Field(ge=1, le=16)] = 1.0
    grain: Share = 0.0

    def used(self) -> bool:
        """True where anything is made."""
        return self.by_regions() or any((self.toned, self.bias, self.blur_voxels, self.thick_voxels > 1, self.grain))

    def by_regions(self) -> bool:
        """True where the regions of the reference are needed."""
        return self.painted > 0 or self.lesions > 0

    def told(self) -> str:
        """For a card; empty where nothing is made."""
        said = [
            f"{100 * self.painted:.0f} % of the crops painted from the regions of the reference and {self.outside} "
            "outside it, in intensities drawn at random"
            if self.painted
            else "",
            f"a random tone curve on {100 * self.toned:.0f} % of the others" if self.toned else "",
            f"up to {self.lesions} lesions of up to {self.lesion_voxels:g} voxels radius" if self.lesions else "",
            f"a bias field (standard deviation of its logarithm up to {self.bias:g})" if self.bias else "",
            f"blur up to {self.blur_voxels:g} voxels" if self.blur_voxels else "",
            f"slices up to {self.thick_voxels:g} voxels thick" if self.thick_voxels > 1 else "",
            f"noise up to {self.grain:g} of the range" if self.grain else "",
        ]
        return "; ".join(text for text in said if text)
