"""From an image to the tensor a tower sees; the same arithmetic as transformers' `LlavaImageProcessor`."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from mgll.formats import Row
from mgll.images.files import ImageError
from mgll.images.opening import MAX_PIXELS, open_image

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_PIXELS", "ImageError", "Preprocessing", "normalise", "open_image", "preprocess", "to_square"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: How much of a JPEG file is decoded: `draft` no more pixels than a tower needs, `exact` all; see `mgll.images.decoding`.
Decode = Literal["draft", "exact"]
Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preprocessing(Row):
    """How images become tensors; travels with the tower.

    Attributes:
        size: height and width of the tensor, in pixels.
        mean: per-channel mean that is taken off values in 0..1 (CLIP's by default).
        std: per-channel standard deviation by which they are divided then.
        resize: `pad` to a square with the mean colour then resize, `squash` to a square, or `crop` the centre square.
        decode: `draft` decodes large JPEG files at a lower resolution, of which `size` still is half or less; `exact` in full.
            A header that says nothing means `exact`, and one that means it says nothing.
    """

    size: int = Field(224, gt=0)
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = CLIP_MEAN
    std: tuple[Spread, Spread, Spread] = CLIP_STD
    resize: Literal["pad", "squash", "crop"] = "pad"
    decode: Decode = "exact"

    @model_serializer(mode="wrap")
    def _silent_where_exact(self, described: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields; without `decode` where it is `exact`, so that headers and digests are those from before it was a choice."""
        said: dict[str, Any] = described(self)
        if self.decode == "exact":
            said.pop("decode", None)
        return said


def to_square(image: Image.Image, preprocessing: Preprocessing, whole: tuple[int, int] | None = None) -> "Tensor":
    """Resize an RGB image by the tower's rule: uint8 tensor [3, size, size].

    Args:
        image: the image.
        preprocessing: the rule.
        whole: width and height of the photograph of which the image is a draft (`mgll.images.decoding`); None for an image that is
            one itself. A draft gives what the photograph would, to within a few grey levels.
    """
    width, height = whole or image.size
    scale = -(-width // image.width)
    size, short, long = preprocessing.size, min(width, height), max(width, height)
    columns, rows = (long, long) if preprocessing.resize == "pad" else (width, height)
    across, down = size, size
    if preprocessing.resize == "crop":
        across, down = (int(size * side / short) for side in (width, height))
    fill = [int(value * 255) for value in preprocessing.mean]
    pixels = _laid(_pixels(image), 1, width, columns, scale, fill)
    if rows > height or _unit(height, rows, scale) < scale:
        # before there are more rows: both passes round to whole numbers, and the first keeps a row of one colour as it is
        pixels = _resized(pixels, pixels.shape[0], across)
    pixels = _resized(_laid(pixels, 0, height, rows, scale, fill), down, across)
    # torchvision's own center_crop rounds the other way at odd remainders
    top, left = (down - size) // 2, (across - size) // 2
    return pixels[top : top + size, left : left + size, :3].contiguous().permute(2, 0, 1)


def _pixels(image: Image.Image) -> "Tensor":
    """Pixels of an RGB image, uint8 [H, W, 4] in its own memory, the fourth of no meaning; or a copy [H, W, 3] of a large one's."""
    # here, because torch takes seconds to import
    import pyarrow
    import torch

    try:
        return torch.from_dlpack(pyarrow.array(image).flatten()).view(image.height, image.width, 4)
    except ValueError:  # Pillow keeps more than 16 MB in several blocks
        return torch.from_numpy(np.array(image))


def _unit(side: int, canvas: int, scale: int) -> int:
    """The largest divisor of a scale in which a side, its margin and the canvas around it are whole numbers."""
    return math.gcd(scale, side, canvas, (canvas - side) // 2)


def _laid(pixels: "Tensor", dim: int, side: int, canvas: int, scale: int, fill: list[int]) -> "Tensor":
    """The pixels [H, W, C] in the middle of a canvas along one dimension, where its length and that of the side are given in full.

    Each pixel stands for `scale` of the photograph's. Where side or margin is no multiple of that, they are repeated.
    """
    import torch

    unit = _unit(side, canvas, scale)
    if unit < scale:
        # four channels as one number, which is ten times as fast
        whole = pixels.view(torch.int32) if pixels.shape[2] == 4 else pixels
        pixels = whole.repeat_interleave(scale // unit, dim).view(torch.uint8).narrow(dim, 0, side // unit)
    before = (canvas - side) // 2 // unit
    after = (canvas - side) // unit - before
    if not before and not after:
        return pixels
    colour = torch.tensor(fill + [0] * (pixels.shape[2] - len(fill)), dtype=torch.uint8)
    shape = list(pixels.shape)
    margins = [colour.expand([*shape[:dim], margin, *shape[dim + 1 :]]) for margin in (before, after)]
    return torch.cat([margins[0], pixels, margins[1]], dim)


def _resized(pixels: "Tensor", height: int, width: int) -> "Tensor":
    """Pixels [H, W, C] at another size, by antialiased bicubic interpolation."""
    from torchvision.transforms.v2 import (
        InterpolationMode,  # here, because it takes seconds and grafting never needs it
    )
    from torchvision.transforms.v2 import functional as tvf

    planes = pixels.permute(2, 0, 1)
    planes = tvf.resize(planes, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return planes.permute(1, 2, 0).contiguous()


def normalise(pixels: "Tensor", preprocessing: Preprocessing) -> "Tensor":
    """Normalise uint8 pixels [..., 3, H, W] to float32 of the same shape."""
    import torch

    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255).sub_(mean).div_(std)


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> "Tensor":
    """An RGB image as a tower sees it: float32 [3, size, size]."""
    return normalise(to_square(image, preprocessing), preprocessing)
