"""How many pixels of a JPEG file are decoded for a tower: no more than it needs, where its preprocessing says `draft`.

A JPEG decoder can give a half, a quarter or an eighth of the resolution for a fraction of the work. A draft keeps at least three
times the pixels a side that the tower's input takes, so that the resize to it sees what it would see of the whole photograph:
values of the input stay within `BOUND` grey levels of the full decode, and as good as all within 2. Files with fewer than six
times the pixels that the input takes along its side, and those that are no JPEG, are decoded in full, and nothing differs.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from mgll.images.opening import open_image, open_prepared
from mgll.images.preprocessing import Preprocessing, to_square

if TYPE_CHECKING:
    from torch import Tensor

#: Grey levels, of 255, by which a draft may differ from the full decode in the tower's input: beside an edge from black to white
#: that no lens has blurred. Drawn photographs differ by 5.
BOUND = 8
#: Pixels a side of a draft for each of the tower's input: with 2, edges would differ by up to 15.
_SPARE = 3
#: By how much a JPEG decoder can divide the resolution.
_SCALES = (8, 4, 2)


@dataclass(frozen=True)
class Photograph:
    """An image as it was decoded.

    Attributes:
        image: upright RGB, a draft perhaps.
        size: width and height of the whole photograph.
    """

    image: Image.Image
    size: tuple[int, int]


def open_square(
    path: str | os.PathLike[str], preprocessing: Preprocessing, longest_side: int | None = None
) -> "Tensor":
    """The image as a tower sees it before normalisation: uint8 [3, size, size].

    Args:
        path: as for `open_image`.
        preprocessing: the tower's rule.
        longest_side: scale the image down to this longest side first, as if its file held no more; it is then decoded in full.

    Raises:
        ImageError, OSError, MemoryError: as `open_image`.
    """
    if longest_side:
        image = open_image(path)
        image.thumbnail((longest_side, longest_side))
        return to_square(image, preprocessing)
    photograph = open_photograph(path, preprocessing)
    return to_square(photograph.image, preprocessing, photograph.size)


def open_for(path: str | os.PathLike[str], preprocessing: Preprocessing) -> Image.Image:
    """An image for another's code that makes it square by the same rule: a draft only where its sides and margins come out whole.

    Raises:
        ImageError, OSError, MemoryError: as `open_image`.
    """
    return open_photograph(path, preprocessing, whole_margins=True).image


def open_photograph(
    path: str | os.PathLike[str], preprocessing: Preprocessing, whole_margins: bool = False
) -> Photograph:
    """Decode as many pixels of an image as a preprocessing needs.

    Args:
        path: as for `open_image`.
        preprocessing: what follows, and whether a draft will do.
        whole_margins: no draft whose sides or margins in a padded square would be broken numbers of pixels.

    Raises:
        ImageError, OSError, MemoryError: as `open_image`.
    """
    if preprocessing.decode == "exact":
        image = open_image(path)
        return Photograph(image, image.size)
    size: tuple[int, int] | None = None

    def draft(image: Image.Image) -> None:
        nonlocal size
        if image.format not in ("JPEG", "MPO"):
            return
        width, height = image.size
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        scale = _scale(width, height, preprocessing, whole_margins, orientation > 1)
        if scale > 1:
            image.draft(None, (width // scale, height // scale))  # None keeps the mode
        size = (height, width) if orientation > 4 else (width, height)

    image = open_prepared(path, draft)
    return Photograph(image, size or image.size)


def _scale(width: int, height: int, preprocessing: Preprocessing, whole_margins: bool, turned: bool) -> int:
    """By how much the resolution is divided: as much as leaves enough pixels along the side that becomes the tower's."""
    pad = preprocessing.resize == "pad"
    side = max(width, height) if pad else min(width, height)
    margin = abs(width - height) // 2 if pad and whole_margins else 0
    # a photograph that is turned over would begin with the broken pixel that it ends with
    whole = [width, height, margin] if whole_margins or turned else []
    return next(
        (
            scale
            for scale in _SCALES
            if side >= _SPARE * scale * preprocessing.size and all(length % scale == 0 for length in whole)
        ),
        1,
    )
