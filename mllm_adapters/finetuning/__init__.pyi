from .alignment import align_connector

__all__ = [
    "align_connector",
]
