"""Tower files with random weights, small enough for a second."""

from pathlib import Path

import torch

from mgll.encoders.vision import vision_encoder
from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower


def save_small_tower(path: Path, seed: int = 0, size: int = 32) -> Path:
    torch.manual_seed(seed)
    save_tower(path, vision_encoder("vit-nano-16", size), Preprocessing(size=size), "mean")
    return path
