"""Models that answer: a local host, a server, a model of lmms-eval."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
