"""What a tower is worth alone: features computed once, probes, few labels, unseen sources, zero-shot, comparisons."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
