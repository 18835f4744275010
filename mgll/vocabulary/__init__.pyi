from .classes import ClassTable, Disease, class_table
from .diseases import (
    FUNDUS,
    NEGATIVE_OF,
    TEN_CLASSES,
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
    "FUNDUS",
    "INSTRUCTION",
    "LETTERS",
    "NEGATIVE_OF",
    "QUESTIONS",
    "TEN_CLASSES",
    "ClassTable",
    "Disease",
    "benchmark_classes",
    "class_table",
    "describe_labels",
    "implied_codes",
    "overlaps",
    "possible_codes",
    "question_text",
    "synonyms",
    "true_codes",
]
