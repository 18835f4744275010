"""MGLL pretraining: images and texts at several granularities in, a vision tower out.

The names of `__init__.pyi` are loaded when they are first used: `import mgll` brings no torch.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
