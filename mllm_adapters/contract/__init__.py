"""What a host, a donor and a graft say about themselves; `terms` says what these three words mean."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
