"""The manifest: one image a line with its split, its group and its texts by granularity."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
