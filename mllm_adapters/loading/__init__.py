"""Models from folders: exactly the weights of the files, with the adapter where there is one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
