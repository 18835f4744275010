"""MGLL pretraining: images and multi-granular texts in, a vision tower out."""

__version__ = "0.1.0"
