from .comparing import Side, auc_influence, mean_of, side_of, side_of_means
from .drawn_areas import Segmentation, dice, intersection_over_union
from .evaluation import Evaluation, EvaluationSettings, NothingToReadError, evaluate, fitted_probe
from .features import features_of, grids_of
from .metrics import Summary, summarise
from .named_towers import NamedEncoders, find_tower
from .probe import Probe, fit_probe, neighbour_scores
from .reading import ClassScore, Reading
from .saving import load_evaluation, load_segmentation, save_evaluation, save_segmentation
from .segmentation import segment
from .towers import Tower, tower_file
from .zero_shot import Retrieval, TextReader, text_reader

__all__ = [
    "ClassScore",
    "Evaluation",
    "EvaluationSettings",
    "NamedEncoders",
    "NothingToReadError",
    "Probe",
    "Reading",
    "Retrieval",
    "Segmentation",
    "Side",
    "Summary",
    "TextReader",
    "Tower",
    "auc_influence",
    "dice",
    "evaluate",
    "features_of",
    "find_tower",
    "fit_probe",
    "fitted_probe",
    "grids_of",
    "intersection_over_union",
    "load_evaluation",
    "load_segmentation",
    "mean_of",
    "neighbour_scores",
    "save_evaluation",
    "save_segmentation",
    "segment",
    "side_of",
    "side_of_means",
    "summarise",
    "text_reader",
    "tower_file",
]
