"""Coded concepts: modality, anatomic region and structure, finding, and how they relate."""

from residency.codes.anatomy import Kind, Relation, body_part_of_region, is_a, part_of, region_of_body_part, relate
from residency.codes.concept import Code
from residency.codes.dictionary import (
    canonical,
    in_group,
    known,
    modality,
    nearest_modality,
    parse_code,
    typed_code,
)

__all__ = [
    "Code",
    "Kind",
    "Relation",
    "body_part_of_region",
    "canonical",
    "in_group",
    "is_a",
    "known",
    "modality",
    "nearest_modality",
    "parse_code",
    "part_of",
    "region_of_body_part",
    "relate",
    "typed_code",
]
