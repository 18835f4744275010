from .text import TextEncoder
from .vision import vision_encoder
from .vision_configs import encoder_config

__all__ = [
    "TextEncoder",
    "encoder_config",
    "vision_encoder",
]
