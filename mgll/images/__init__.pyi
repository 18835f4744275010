from .files import ImageError
from .preprocessing import Preprocessing, normalise, open_image, preprocess, to_square

__all__ = [
    "ImageError",
    "Preprocessing",
    "normalise",
    "open_image",
    "preprocess",
    "to_square",
]
