from .grafted_tower import GraftedTower
from .hidden_states import HiddenStatesHost
from .image_processor import image_processor_settings
from .last_hidden_state import LastHiddenStateHost
from .placeholder_processor import PlaceholderProcessor
from .square_images import SquareImages

__all__ = [
    "GraftedTower",
    "HiddenStatesHost",
    "LastHiddenStateHost",
    "PlaceholderProcessor",
    "SquareImages",
    "image_processor_settings",
]
