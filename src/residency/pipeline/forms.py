"""Which objects a result becomes: one policy, by what is known of the archive that takes results.

findings            stored as                                    where
segments            Segmentation BINARY                          everywhere, unless the next row applies
segments apart      Label Map Segmentation                       the target's setting allows it and it is proven to
                                                                 take one; the segments do not overlap
those of the step   Segmentation BINARY, of their own            everywhere
before, in a cascade
probabilities       Segmentation FRACTIONAL                      everywhere
maps                Parametric Map, one a map                    everywhere
anything            Secondary Capture summary                    setting "always"; or "auto", and the target is not
                                                                 known to show Segmentations
anything            Structured Report TID 1500, stored last      everywhere
"""

from __future__ import annotations

from dataclasses import dataclass

from residency.dicom.part10 import Syntax
from residency.dicom.segmentation import MOST_SEGMENTS, SegmentationType, overlap
from residency.findings import Findings
from residency.settings import ArchiveSettings, Summary


@dataclass(frozen=True)
class ResultForms:
    """What is known of the archive that takes results. By default nothing is: what is written, every archive takes.

    label_map            its setting allows label maps
    label_map_proven     it has been shown to take them; without, each is read back before the report refers to it
    label_map_syntax     transfer syntax of label maps
    read_back            it gives back what it stores; where it does not, nothing can be proven of it
    summary              its setting for pictures beside a result
    shows_segmentations  its viewers show Segmentations
    """

    label_map: bool = False
    label_map_proven: bool = False
    label_map_syntax: Syntax = Syntax.RLE
    read_back: bool = True
    summary: Summary = "auto"
    shows_segmentations: bool = False

    def segmentation_type(self, findings: Findings) -> SegmentationType:
        """In which form the segments are written first; a label map that is not taken becomes BINARY."""
        provable = self.label_map_proven or self.read_back
        fits = len(findings.segments) <= MOST_SEGMENTS
        if self.label_map and provable and fits and not overlap(findings.segments):
            return SegmentationType.LABELMAP
        return SegmentationType.BINARY

    def wants_summary(self) -> bool:
        """True where pictures are stored beside the result."""
        return self.summary == "always" or (self.summary == "auto" and not self.shows_segmentations)


def forms_for(archive: ArchiveSettings) -> ResultForms:
    """The forms that the settings of an archive ask for. That it takes label maps is yet to be proven."""
    return ResultForms(
        label_map=archive.label_map,
        read_back=archive.read_back,
        summary=archive.summary,
        shows_segmentations=archive.shows_segmentations,
    )
