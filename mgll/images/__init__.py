"""Images."""

from mgll.images.preprocessing import Preprocessing, normalise, open_image, preprocess, to_square

__all__ = ["Preprocessing", "normalise", "open_image", "preprocess", "to_square"]
