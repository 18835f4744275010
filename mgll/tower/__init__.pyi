from .features import tower_features
from .file import TowerHeader, load_tower, read_header, read_tensors, read_tower, save_tower, tower_shapes

__all__ = [
    "TowerHeader",
    "load_tower",
    "read_header",
    "read_tensors",
    "read_tower",
    "save_tower",
    "tower_features",
    "tower_shapes",
]
