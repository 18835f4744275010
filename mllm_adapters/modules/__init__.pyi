from .grafted_tower import GraftedTower
from .image_processor import image_processor_settings
from .placeholder_processor import PlaceholderProcessor
from .square_images import SquareImages

__all__ = [
    "GraftedTower",
    "PlaceholderProcessor",
    "SquareImages",
    "image_processor_settings",
]
