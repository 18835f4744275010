"""Reports of one run or of two that are compared: HTML, Markdown, CSV, terminal."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
