from .classes import model_class
from .device_map import refuse_several
from .load import shard_hashes
from .options import USUAL, add_weight_options

__all__ = [
    "USUAL",
    "add_weight_options",
    "model_class",
    "refuse_several",
    "shard_hashes",
]
