"""Four-option questions about images: the file between the making of the benchmark and its scoring."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
