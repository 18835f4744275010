from .answers import Answers, answers_of
from .file import ComparisonError, Prediction, Run, differences, read_run, write_run
from .scoring import score_cases

__all__ = [
    "Answers",
    "ComparisonError",
    "Prediction",
    "Run",
    "answers_of",
    "differences",
    "read_run",
    "score_cases",
    "write_run",
]
