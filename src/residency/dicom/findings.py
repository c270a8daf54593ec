"""Findings read back from what was stored: segmentations and measurement reports, of ours and of others."""

from residency.dicom.report_read import MeasurementGroup, NumberRead, ReportContent, read_report
from residency.dicom.segmentation_read import Algorithm, SegmentationContent, SegmentRead, read_segmentation

__all__ = [
    "Algorithm",
    "MeasurementGroup",
    "NumberRead",
    "ReportContent",
    "SegmentRead",
    "SegmentationContent",
    "read_report",
    "read_segmentation",
]
