from .curve import Curve, curve_of
from .features import tower_features
from .file import (
    TowerHeader,
    is_tower,
    load_text_side,
    load_tower,
    read_header,
    read_tensors,
    read_tower,
    save_tower,
    tower_shapes,
)
from .seen import SeenImages, read_seen
from .text_side import TextFacts, TextSide

__all__ = [
    "Curve",
    "SeenImages",
    "TextFacts",
    "TextSide",
    "TowerHeader",
    "curve_of",
    "is_tower",
    "load_text_side",
    "load_tower",
    "read_header",
    "read_seen",
    "read_tensors",
    "read_tower",
    "save_tower",
    "tower_features",
    "tower_shapes",
]
