"""Options."""

from benchmark.options.draw import Design, Drawing, Drawn, draw

__all__ = ["Design", "Drawing", "Drawn", "draw"]
