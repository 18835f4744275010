"""Tower files with random weights, small enough for a second."""

import sys
from pathlib import Path

import torch

from mgll.encoders.vision import vision_encoder
from mgll.files import content_sha256
from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower
from mgll.tower.text_side import TextFacts, TextSide

sys.path.append(str(Path(__file__).parents[1]))
from tiny_text_models import bert


def save_small_tower(path: Path, seed: int = 0, size: int = 32) -> Path:
    torch.manual_seed(seed)
    save_tower(path, vision_encoder("vit-nano-16", size), Preprocessing(size=size), "mean")
    return path


def save_small_tower_with_texts(path: Path, seed: int = 0, size: int = 32) -> Path:
    """With a text encoder of its own beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = bert(path.parent / "bert")
    torch.manual_seed(seed)
    model = vision_encoder("vit-nano-16", size)
    facts = TextFacts(
        encoder=texts,
        sha256=content_sha256(texts),
        pooling="mean",
        width=32,
        feature_width=16,
        temperature=0.07,
        bias=0.0,
        levels=("disease",),
    )
    side = TextSide(facts, torch.randn(16, model.config.hidden_size), torch.randn(16, 32))
    save_tower(path, model, Preprocessing(size=size), "mean", side)
    return path
