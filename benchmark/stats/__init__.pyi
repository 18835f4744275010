from .bootstrap import Resampling, resamples
from .significance import mcnemar, sign_flip, wilson

__all__ = [
    "Resampling",
    "mcnemar",
    "resamples",
    "sign_flip",
    "wilson",
]
