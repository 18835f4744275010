"""From an image file to the tensor a tower sees; the same arithmetic as transformers' `LlavaImageProcessor`."""

import os
import warnings
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from pydantic import Field, FiniteFloat

from mgll.formats import Row
from mgll.images.files import ImageError, opened, read_npz
from mgll.images.grey_range import grey_range, to_8_bits
from mgll.images.jpeg12 import bits_of_jpeg, read_jpeg12
from mgll.machine_errors import stop_if_of_the_machine

if TYPE_CHECKING:
    from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 100_000_000
#: Bytes of a JPEG file in which the start of its frame is looked for.
_HEADER_OF_JPEG = 1 << 20
Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preprocessing(Row):
    """How images become tensors; travels with the tower.

    Attributes:
        size: height and width of the tensor, in pixels.
        mean: per-channel mean that is taken off values in 0..1 (CLIP's by default).
        std: per-channel standard deviation by which they are divided then.
        resize: `pad` to a square with the mean colour then resize, `squash` to a square, or `crop` the centre square.
    """

    size: int = Field(224, gt=0)
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = CLIP_MEAN
    std: tuple[Spread, Spread, Spread] = CLIP_STD
    resize: Literal["pad", "squash", "crop"] = "pad"


def open_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """Open an image as upright 8-bit RGB: EXIF rotation applied, grey, CMYK, palette, alpha and 16-bit converted.

    Args:
        path: an image file, an npz file or `SHARD.tar::NAME@OFFSET`, see `mgll.images.files`.
        max_pixels: refuse larger images before decoding them (a 200-megapixel PNG can cost a gigabyte).
        at_least: decode a JPEG at a half, a quarter or an eighth of its size while its sides keep this many pixels: several times
            faster, for small copies only.

    Raises:
        ImageError: if the file is missing, empty, truncated, too large, too narrow or not an image.
        OSError, MemoryError: if the machine can't read it: rights, a failing drive, too many open files, memory.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        warnings.warn("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: truncated images will pass", stacklevel=2)
    try:
        with opened(path) as (name, file), warnings.catch_warnings():
            if name.endswith(".npz"):
                array = read_npz(path, file, max_pixels)
                _check_size(path, array.shape[1], array.shape[0], max_pixels)
                return Image.fromarray(array).convert("RGB")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter and says more
            with Image.open(file) as image:
                _check_size(path, image.width, image.height, max_pixels)
                if at_least:
                    image.draft(None, (at_least, at_least))  # None keeps the mode
                # Pillow turns such a TIFF file of 8 bits over, but not one of more
                white_is_zero = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
                return _to_rgb(ImageOps.exif_transpose(image), white_is_zero)
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
    return image.convert("RGB")


def to_square(image: Image.Image, preprocessing: Preprocessing) -> "Tensor":
    """Resize an RGB image by the tower's rule: uint8 tensor [3, size, size]."""
    # here, because torch takes seconds to import
    from torchvision.transforms.v2 import (
        InterpolationMode,  # here, because it takes seconds and grafting never needs it
    )
    from torchvision.transforms.v2 import functional as tvf

    pixels, size = tvf.pil_to_tensor(image), preprocessing.size
    height, width = pixels.shape[-2:]
    if preprocessing.resize == "pad" and height != width:
        long = max(height, width)
        left, top = (long - width) // 2, (long - height) // 2
        fill = [int(value * 255) for value in preprocessing.mean]
        pixels = tvf.pad(pixels, [left, top, long - width - left, long - height - top], fill=fill)
    if preprocessing.resize == "crop":
        pixels = tvf.resize(pixels, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
        height, width = pixels.shape[-2:]
        # torchvision's own center_crop rounds the other way at odd remainders
        return tvf.crop(pixels, (height - size) // 2, (width - size) // 2, size, size)
    return tvf.resize(pixels, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)


def normalise(pixels: "Tensor", preprocessing: Preprocessing) -> "Tensor":
    """Normalise uint8 pixels [..., 3, H, W] to float32 of the same shape."""
    import torch

    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> "Tensor":
    """An RGB image as a tower sees it: float32 [3, size, size]."""
    return normalise(to_square(image, preprocessing), preprocessing)
