from .diseases import (
    NEGATIVE_OF,
    TEN_CLASSES,
    Disease,
    benchmark_classes,
    implied_codes,
    overlaps,
    possible_codes,
    synonyms,
    true_codes,
)
from .label_texts import describe_labels
from .questions import INSTRUCTION, LETTERS, QUESTIONS, question_text

__all__ = [
    "INSTRUCTION",
    "LETTERS",
    "NEGATIVE_OF",
    "QUESTIONS",
    "TEN_CLASSES",
    "Disease",
    "benchmark_classes",
    "describe_labels",
    "implied_codes",
    "overlaps",
    "possible_codes",
    "question_text",
    "synonyms",
    "true_codes",
]
