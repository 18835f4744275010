from .conversion import Conversion, convert
from .layouts import LAYOUTS, Layout

__all__ = [
    "LAYOUTS",
    "Conversion",
    "Layout",
    "convert",
]
