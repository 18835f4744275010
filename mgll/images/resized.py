"""Photographs scaled down once and for all, as JPEG files whose comment says what was done, and of which file.

The comment holds the digests of the original's bytes and pixels, so that the photograph is found again by them
(`mgll.images.looks`) where a copy of the original turns up among the images asked about.
"""

import io
import os
from dataclasses import dataclass

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from mgll.images.files import image_sha256
from mgll.images.opening import open_image, pixels_sha256

_MARK = b"mgll.resized/1 "
#: Pillow's resize may first average whole pixels, down to so many times the size.
_GAP = 3.0


@dataclass(frozen=True)
class Resized:
    """What was done to a photograph.

    Attributes:
        longest_side: pixels of its longest side that it was scaled down to.
        quality: JPEG quality from 1 to 95.
        width: width of the original, upright, in pixels.
        height: its height.
        file: hex SHA-256 of the original's bytes.
        pixels: hex SHA-256 of its decoded pixels, see `mgll.images.opening.pixels_sha256`.
    """

    longest_side: int
    quality: int
    width: int
    height: int
    file: str
    pixels: str


def resized_jpeg(path: str | os.PathLike[str], longest_side: int, quality: int) -> bytes | None:
    """A JPEG file with the image scaled down to a longest side, upright; None if it is no larger and may stay as it is.

    Raises:
        ImageError, OSError, MemoryError: as `open_image`.
    """
    image = open_image(path)
    width, height = image.size
    long = max(width, height)
    if long <= longest_side:
        return None
    before = what_was_done(image) or Resized(0, 0, width, height, image_sha256(path), pixels_sha256(image))
    done = Resized(longest_side, quality, before.width, before.height, before.file, before.pixels)
    size = (max(1, round(width * longest_side / long)), max(1, round(height * longest_side / long)))
    file = io.BytesIO()
    comment = _MARK + TypeAdapter(Resized).dump_json(done)
    image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_GAP).save(file, "JPEG", quality=quality, comment=comment)
    return file.getvalue()


def what_was_done(image: Image.Image) -> Resized | None:
    """What an opened image's comment says; None for an image that is not one of `resized_jpeg`'s."""
    comment = image.info.get("comment", b"")
    comment = comment.encode("utf-8", "replace") if isinstance(comment, str) else comment
    if not comment.startswith(_MARK):
        return None
    try:
        return TypeAdapter(Resized).validate_json(comment[len(_MARK) :])
    except ValidationError:
        return None
