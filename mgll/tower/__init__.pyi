from .features import tower_features
from .file import TowerHeader, load_tower, read_header, read_tensors, read_tower, save_tower, tower_shapes
from .seen import SeenImages, read_seen

__all__ = [
    "SeenImages",
    "TowerHeader",
    "load_tower",
    "read_header",
    "read_seen",
    "read_tensors",
    "read_tower",
    "save_tower",
    "tower_features",
    "tower_shapes",
]
