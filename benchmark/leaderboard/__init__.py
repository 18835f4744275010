"""Towers side by side: every reading of `mgll.evaluation`, with seeds and patients as random, as page and tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
