"""Names as numbers in order of first appearance, so that nothing depends on how groups or classes are called."""

import numpy as np
from numpy.typing import ArrayLike


def first_seen(names: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Number of each name [names], and the distinct names in order of first appearance."""
    import pandas as pd  # here, because it takes a second to import

    numbers, distinct = pd.factorize(np.asarray(names))
    return np.asarray(numbers), np.asarray(distinct)
