from .cases.building import build_cases
from .cases.case import Case, read_cases, write_cases
from .predictions.file import Prediction, Run, read_run, write_run
from .predictions.scoring import score_cases
from .replies.parsing import Reply, parse_reply
from .report.writing import report_runs, write_report
from .scorers.scorer import Ask, Score, Scorer
from .scorers.transformers_scorer import TransformersScorer

__all__ = [
    "Ask",
    "Case",
    "Prediction",
    "Reply",
    "Run",
    "Score",
    "Scorer",
    "TransformersScorer",
    "build_cases",
    "parse_reply",
    "read_cases",
    "read_run",
    "report_runs",
    "score_cases",
    "write_cases",
    "write_report",
    "write_run",
]
