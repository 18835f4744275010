"""The tower file (`mgll.ckpt`), and the models that it can hold."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
