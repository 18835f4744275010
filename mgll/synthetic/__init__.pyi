from .dataset import generate
from .drawing import draw_eye
from .sampling import sample_eye

__all__ = ["draw_eye", "generate", "sample_eye"]
