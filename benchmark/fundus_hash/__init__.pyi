from .hashing import THRESHOLD, distances, fundus_hashes

__all__ = [
    "THRESHOLD",
    "distances",
    "fundus_hashes",
]
