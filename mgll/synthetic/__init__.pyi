from .dataset import generate
from .drawing import draw_eye, draw_masks
from .sampling import sample_eye

__all__ = ["draw_eye", "draw_masks", "generate", "sample_eye"]
