"""The tower file (`mgll.ckpt`), and the models that it can hold."""

from mgll.tower.file import TowerHeader, load_tower, read_header, read_tensors, read_tower, save_tower, tower_shapes

__all__ = ["TowerHeader", "load_tower", "read_header", "read_tensors", "read_tower", "save_tower", "tower_shapes"]
