"""Residency: trained networks live in the DICOM archive, are chosen by coded labels, and answer as DICOM."""

__version__ = "0.1.0"
