"""Coded concepts: modality, anatomic region and structure, finding, and how they relate."""

from residency.codes.concept import Code

__all__ = ["Code"]
