from .by_name import check_model, load_scorer
from .endpoint_scorer import EndpointScorer
from .lmms_eval_scorer import LmmsEvalScorer
from .scorer import Ask, AskError, PreparingScorer, Score, Scorer
from .transformers_scorer import TransformersScorer

__all__ = [
    "Ask",
    "AskError",
    "EndpointScorer",
    "LmmsEvalScorer",
    "PreparingScorer",
    "Score",
    "Scorer",
    "TransformersScorer",
    "check_model",
    "load_scorer",
]
