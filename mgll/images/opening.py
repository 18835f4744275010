"""An image file as upright 8-bit RGB, whatever it holds."""

import hashlib
import os
import warnings
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from mgll.images.files import ImageError, opened, read_npz
from mgll.images.grey_range import grey_range, to_8_bits
from mgll.images.jpeg12 import bits_of_jpeg, read_jpeg12
from mgll.machine_errors import stop_if_of_the_machine

MAX_PIXELS = 100_000_000
#: Bytes of a JPEG file in which the start of its frame is looked for.
_HEADER_OF_JPEG = 1 << 20


def open_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """Open an image as upright 8-bit RGB: EXIF rotation applied, grey, CMYK, palette, alpha and 16-bit converted.

    Args:
        path: an image file, an npz file or `SHARD.tar::NAME@OFFSET`, see `mgll.images.files`.
        max_pixels: refuse larger images before decoding them (a 200-megapixel PNG can cost a gigabyte).
        at_least: decode a JPEG at a half, a quarter or an eighth of its size while its sides keep this many pixels: several times
            faster, for small copies only. What a tower is to see is opened by `mgll.images.decoding`.

    Raises:
        ImageError: if the file is missing, empty, truncated, too large, too narrow or not an image.
        OSError, MemoryError: if the machine can't read it: rights, a failing drive, too many open files, memory.
    """
    return open_prepared(path, lambda image: image.draft(None, (at_least, at_least)) if at_least else None, max_pixels)


def open_prepared(
    path: str | os.PathLike[str], prepare: Callable[[Image.Image], object], max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open an image as `open_image` does.

    Args:
        path: as for `open_image`.
        prepare: called with Pillow's image before its pixels are decoded, so that it may ask for fewer of them (`Image.draft`).
        max_pixels: as for `open_image`.

    Raises:
        ImageError, OSError, MemoryError: as `open_image`.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        warnings.warn("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: truncated images will pass", stacklevel=3)
    try:
        with opened(path) as (name, file), warnings.catch_warnings():
            if name.endswith(".npz"):
                array = read_npz(path, file, max_pixels)
                _check_size(path, array.shape[1], array.shape[0], max_pixels)
                return Image.fromarray(array).convert("RGB")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter and says more
            with Image.open(file) as image:
                _check_size(path, image.width, image.height, max_pixels)
                prepare(image)
                # Pillow turns such a TIFF file of 8 bits over, but not one of more
                white_is_zero = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
                ImageOps.exif_transpose(image, in_place=True)  # a copy of all pixels would take as long as a resize
                return _to_rgb(image, white_is_zero)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: {error}; scale it down") from None
    except UnidentifiedImageError:
        return _not_pillows(path, max_pixels)
    except Exception as error:
        stop_if_of_the_machine(error, path)
        # A decoder that fails may raise an OSError without a number, but also a ValueError, RuntimeError or AttributeError.
        raise ImageError(f"{path}: damaged image ({error or type(error).__name__})") from None


def _not_pillows(path: str | os.PathLike[str], max_pixels: int) -> Image.Image:
    """An image that Pillow does not know: a JPEG file of more than 8 bits a sample."""
    with opened(path) as (_, file):
        content = file.read(_HEADER_OF_JPEG)
        if (bits_of_jpeg(content) or 0) <= 8:
            raise ImageError(f"{path}: not an image that Pillow can read")
        content += file.read(2 * max_pixels)  # more bytes than pixels of two bytes are no image
    try:
        values = read_jpeg12(content, max_pixels)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    _check_size(path, values.shape[1], values.shape[0], max_pixels)
    return Image.fromarray(to_8_bits(values, *grey_range(values))).convert("RGB")


def _check_size(path: str | os.PathLike[str], width: int, height: int, max_pixels: int) -> None:
    """Raise `ImageError` for an image that would take too much memory, as it is or padded to a square."""
    short, long = sorted((width, height))
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} is over the limit of {max_pixels / 1e6:.0f} megapixels; scale it down"
        )
    if long > 100 * short or long * long > 4 * max_pixels:
        raise ImageError(f"{path}: {width} x {height} is too narrow a strip to be made a square; cut it")


def _to_rgb(image: Image.Image, white_is_zero: bool) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own convert("RGB") clips 16-bit greys to white
        values = np.asarray(image)
        low, high = grey_range(values)
        if white_is_zero:
            values, low, high = -values.astype(np.float64), -high, -low
        return Image.fromarray(to_8_bits(values, low, high)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def pixels_sha256(image: Image.Image) -> str:
    """Hex SHA-256 of an RGB image's pixels and their extent; empty for an image of one colour, which shows nobody."""
    if all(low == high for low, high in image.getextrema()):  # type: ignore[misc]  # RGB: a pair a channel
        return ""
    return hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()
