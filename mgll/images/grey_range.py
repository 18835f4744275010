"""Greys of more than 8 bits as 8 bits: which values become black and white."""

import numpy as np

#: One pixel in so many may be an outlier at either end of the range: a hot or a dead pixel of the detector.
_PIXELS_AN_OUTLIER = 500
#: An outlier lies farther out than this share of what the other pixels span.
_OUTLYING = 0.1


def grey_range(values: np.ndarray) -> tuple[float, float]:
    """Values that become black and white: the lowest and the highest, without a few outliers, so that no hot pixel eats the range.

    Args:
        values: greys, of any shape; those that are not finite don't count.

    Returns:
        The lower and the higher value; both are 0 where there is no finite value, and equal where all pixels are.
    """
    values = values.reshape(-1)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    few = values.size // _PIXELS_AN_OUTLIER
    # The two places also put the extremes beside them: at the ends beyond each, all values are lower or higher.
    ordered = np.partition(values, [few, values.size - 1 - few])
    inner_low, inner_high = float(ordered[few]), float(ordered[-1 - few])
    low, high = float(ordered[: few + 1].min()), float(ordered[-1 - few :].max())
    reach = (inner_high - inner_low) * _OUTLYING
    if not reach:
        return low, high
    return (low if inner_low - low <= reach else inner_low), (high if high - inner_high <= reach else inner_high)


def to_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Greys as uint8 of the same shape: `low` is 0, `high` is 255, what lies beyond is cut off, and what is no number is 0."""
    scaled = np.array(values, dtype=np.float64)  # one copy, changed in place: a large image takes 800 MB of it
    scaled -= low
    scaled *= 255 / (high - low) if high > low else 0.0
    np.nan_to_num(scaled, copy=False, posinf=255.0)
    return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)
