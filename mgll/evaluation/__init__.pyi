from .about import about_towers
from .comparing import Side, auc_influence, mean_of, side_of, side_of_means
from .drawn_areas import Segmentation, dice, intersection_over_union
from .embedding import Embedding, embed, load_embedding, save_embedding
from .evaluation import Evaluation, evaluate, fitted_probe
from .features import features_of, grids_of
from .linear_readings import NothingToReadError
from .metrics import Summary, summarise
from .named_towers import NamedEncoders, add_tower_arguments, find_tower
from .probe import Probe, fit_probe, neighbour_scores
from .reading import ClassScore, Reading
from .saving import load_evaluation, load_segmentation, save_evaluation, save_segmentation
from .segmentation import segment
from .settings import EvaluationSettings
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
    "Segmentation",
    "Side",
    "Summary",
    "TextReader",
    "Tower",
    "about_towers",
    "add_tower_arguments",
    "auc_influence",
    "dice",
    "embed",
    "evaluate",
    "features_of",
    "find_tower",
    "fit_probe",
    "fitted_probe",
    "grids_of",
    "intersection_over_union",
    "load_embedding",
    "load_evaluation",
    "load_segmentation",
    "mean_of",
    "neighbour_scores",
    "save_embedding",
    "save_evaluation",
    "save_segmentation",
    "segment",
    "side_of",
    "side_of_means",
    "summarise",
    "text_reader",
    "tower_file",
]
