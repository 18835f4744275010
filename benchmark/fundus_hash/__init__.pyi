from .calibration import copy_bits, stranger_bits

__all__ = [
    "copy_bits",
    "stranger_bits",
]
