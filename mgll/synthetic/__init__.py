"""Procedural fundus images: an eye with chosen findings, drawn from a seed.

>>> image = draw_eye(["PDR", "DME"], seed=7)
>>> manifest = generate("eyes", count=2000, seed=0)  # doctest: +SKIP

They imitate what a lesion looks like, enough to train and test the whole chain without a download. They are no substitute
for photographs, and nothing learned from them is for diagnosis.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
