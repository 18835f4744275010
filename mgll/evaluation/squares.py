"""Masks through the rule that makes an image the square that a tower sees, and back onto the photograph."""

import numpy as np
from PIL import Image

from mgll.images.preprocessing import Preprocessing


def mask_to_square(mask: np.ndarray, preprocessing: Preprocessing, side: int) -> np.ndarray:
    """Share of each cell that the structure covers, float32 [side, side], of a mask bool [height, width]."""
    height, width = mask.shape
    area = mask.astype(np.float32)
    if preprocessing.resize == "pad":
        long = max(height, width)
        top, left = (long - height) // 2, (long - width) // 2
        area = np.pad(area, ((top, long - height - top), (left, long - width - left)))
    elif preprocessing.resize == "crop":
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        area = area[top : top + short, left : left + short]
    return np.asarray(Image.fromarray(area).resize((side, side), Image.Resampling.BOX))


def square_to_image(square: np.ndarray, preprocessing: Preprocessing, height: int, width: int) -> np.ndarray:
    """Values of the square [side, side] laid onto the image, float32 [height, width]; 0 where the tower saw nothing of it."""
    picture = Image.fromarray(square.astype(np.float32))
    if preprocessing.resize == "squash":
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    if preprocessing.resize == "pad":
        long = max(height, width)
        top, left = (long - height) // 2, (long - width) // 2
        return np.asarray(picture.resize((long, long), Image.Resampling.BILINEAR))[
            top : top + height, left : left + width
        ]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    whole = np.zeros((height, width), dtype=np.float32)
    seen = np.asarray(picture.resize((short, short), Image.Resampling.BILINEAR))
    whole[top : top + short, left : left + short] = seen
    return whole


def mask_at(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask bool [H, W] at another size, bool [height, width]: where at least half of a pixel is covered."""
    area = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(area) >= 0.5
