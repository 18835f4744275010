from .model import ContrastiveModel
from .pretraining import BadImagesError, pretrain

__all__ = [
    "BadImagesError",
    "ContrastiveModel",
    "pretrain",
]
