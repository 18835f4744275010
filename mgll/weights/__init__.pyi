from .reading import misfits, read_weights
from .stored import Stored, read_stored

__all__ = [
    "Stored",
    "misfits",
    "read_stored",
    "read_weights",
]
