"""Findings read back from what was stored: segmentations, maps and measurement reports, of ours and of others."""

from residency.dicom.parametric_map_read import MapContent, read_parametric_map
from residency.dicom.report_read import MeasurementGroup, NumberRead, ReportContent, read_report
from residency.dicom.segmentation_read import Algorithm, SegmentationContent, SegmentRead, read_segmentation

__all__ = [
    "Algorithm",
    "MapContent",
    "MeasurementGroup",
    "NumberRead",
    "ReportContent",
    "SegmentRead",
    "SegmentationContent",
    "read_parametric_map",
    "read_report",
    "read_segmentation",
]
