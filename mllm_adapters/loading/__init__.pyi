from .classes import model_class
from .load import shard_hashes

__all__ = [
    "model_class",
    "shard_hashes",
]
