from .about import about_towers
from .comparing import Side, auc_influence, mean_of, side_of
from .embedding import Embedding, embed, load_embedding, save_embedding
from .evaluation import Evaluation, EvaluationSettings, NothingToReadError, evaluate
from .features import features_of
from .metrics import Summary, summarise
from .named_towers import NamedEncoders, find_tower
from .probe import Probe, fit_probe, neighbour_scores
from .reading import ClassScore, Reading
from .saving import load_evaluation, save_evaluation
from .towers import Tower, tower_file
from .zero_shot import Retrieval, TextReader, text_reader

__all__ = [
    "ClassScore",
    "Embedding",
    "Evaluation",
    "EvaluationSettings",
    "NamedEncoders",
    "NothingToReadError",
    "Probe",
    "Reading",
    "Retrieval",
    "Side",
    "Summary",
    "TextReader",
    "Tower",
    "about_towers",
    "auc_influence",
    "embed",
    "evaluate",
    "features_of",
    "find_tower",
    "fit_probe",
    "load_embedding",
    "load_evaluation",
    "mean_of",
    "neighbour_scores",
    "save_embedding",
    "save_evaluation",
    "side_of",
    "summarise",
    "text_reader",
    "tower_file",
]
