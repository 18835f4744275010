"""A graft that leaves the house: folders that transformers, PEFT and servers read without this package."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
