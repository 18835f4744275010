from .comparing import Side, auc_influence, mean_of, side_of
from .evaluation import Evaluation, EvaluationSettings, NothingToReadError, evaluate
from .features import features_of
from .metrics import Summary, summarise
from .probe import Probe, fit_probe, neighbour_scores
from .reading import ClassScore, Reading
from .readings_file import load_readings, save_readings
from .towers import Tower, tower_file
from .zero_shot import Retrieval, TextReader, text_reader

__all__ = [
    "ClassScore",
    "Evaluation",
    "EvaluationSettings",
    "NothingToReadError",
    "Probe",
    "Reading",
    "Retrieval",
    "Side",
    "Summary",
    "TextReader",
    "Tower",
    "auc_influence",
    "evaluate",
    "features_of",
    "fit_probe",
    "load_readings",
    "mean_of",
    "neighbour_scores",
    "save_readings",
    "side_of",
    "summarise",
    "text_reader",
    "tower_file",
]
