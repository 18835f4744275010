"""Maps of several towers over the same photographs, side by side as a page and a picture (the paper's Figures 4 and 6)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
