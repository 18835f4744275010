from .load import model_class, shard_hashes

__all__ = [
    "model_class",
    "shard_hashes",
]
