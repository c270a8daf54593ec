"""DIMSE: the door to an archive that speaks DICOM's own network protocol."""

from residency.archives.dimse.door import Dimse

__all__ = ["Dimse"]
