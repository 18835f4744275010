from .counts import ShortageError
from .draw import Design, Drawing, Drawn

__all__ = [
    "Design",
    "Drawing",
    "Drawn",
    "ShortageError",
]
