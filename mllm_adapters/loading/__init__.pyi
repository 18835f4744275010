from .load import load_processor, model_class, shard_hashes

__all__ = [
    "load_processor",
    "model_class",
    "shard_hashes",
]
