"""Procedural fundus images: an eye with chosen findings, drawn from a seed.

>>> image = draw_eye(["PDR", "DME"], seed=7)
>>> manifest = generate("eyes", count=2000, seed=0)  # doctest: +SKIP

They imitate what a lesion looks like, enough to train and test the whole chain without a download. They are no substitute
for photographs, and nothing learned from them is for diagnosis.
"""

from mgll.synthetic.dataset import generate
from mgll.synthetic.drawing import draw_eye
from mgll.synthetic.sampling import sample_eye

__all__ = ["draw_eye", "generate", "sample_eye"]
