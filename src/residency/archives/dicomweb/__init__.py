"""The door to archives that speak DICOMweb."""

from residency.archives.dicomweb.door import DicomWeb

__all__ = ["DicomWeb"]
