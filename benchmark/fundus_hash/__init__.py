"""How far the perceptual hash of `mgll.images` tells copies of a photograph from strangers, on your own photographs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
