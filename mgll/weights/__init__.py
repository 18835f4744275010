"""Weights."""

from mgll.weights.reading import misfits, read_weights

__all__ = ["misfits", "read_weights"]
