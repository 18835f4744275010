"""Vocabulary."""

from mgll.vocabulary.diseases import (
    NEGATIVE_OF,
    TEN_CLASSES,
    Disease,
    benchmark_classes,
    diseases,
    implied_codes,
    overlaps,
    possible_codes,
    synonyms,
    true_codes,
)

__all__ = [
    "NEGATIVE_OF",
    "TEN_CLASSES",
    "Disease",
    "benchmark_classes",
    "diseases",
    "implied_codes",
    "overlaps",
    "possible_codes",
    "synonyms",
    "true_codes",
]
