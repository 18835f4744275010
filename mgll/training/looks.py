"""Random looks of an image, drawn apart from the pixels: applied to one image on the processor, or to a whole batch on the device.

The two differ by rounding: the processor's pixels are whole numbers after each change, the device's are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

#: What a grey is of red, green and blue, as torchvision has it.
_GREY = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip and colour jitter. The fields mean what the settings of these names mean in `PretrainSettings`."""

    crop_scale: float
    flip: float
    colour_jitter: float
    seed: int


@dataclass(frozen=True)
class Look:
    """What is done to one image.

    Attributes:
        box: top, left, height and width of the crop, in pixels.
        flip: whether left and right are exchanged.
        factors: of brightness, contrast and saturation; empty where colours stay as they are.
    """

    box: tuple[int, int, int, int]
    flip: bool
    factors: tuple[float, ...]

    @property
    def row(self) -> list[float]:
        """The eight numbers that `apply_looks` takes: box, flip and factors."""
        return [*self.box, self.flip, *(self.factors or (1.0, 1.0, 1.0))]


def draw_look(shape: Sequence[int], settings: Augmentation, random: np.random.Generator) -> Look:
    """Draw a look of an image of this height and width; the crop has the shape of the image."""
    share = float(random.uniform(settings.crop_scale, 1.0)) ** 0.5
    height, width = (max(1, round(side * share)) for side in shape)
    top, left = (int(random.integers(0, side - keep + 1)) for side, keep in zip(shape, (height, width), strict=True))
    flip = bool(random.uniform() < settings.flip)
    low, high = max(0.0, 1 - settings.colour_jitter), 1 + settings.colour_jitter
    factors = tuple(float(random.uniform(low, high)) for _ in range(3)) if settings.colour_jitter else ()
    return Look((top, left, height, width), flip, factors)


def apply_look(pixels: Tensor, size: tuple[int, int], look: Look) -> Tensor:
    """Crop, flip and jitter uint8 pixels [3, H, W] into uint8 [3, *size]."""
    pixels = tvf.resized_crop(pixels, *look.box, list(size), antialias=True)
    if look.flip:
        pixels = tvf.horizontal_flip(pixels)
    return _jittered(pixels, *look.factors) if look.factors else pixels


def _jittered(pixels: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Uint8 pixels [3, H, W] as torchvision's three adjustments change them, to the bit: whole numbers, but floats until the end.

    Going back to bytes between them would take three times as long.
    """
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(brightness).clamp_(0, 255).floor_()
    mean = _whole_grey(values).mean()
    values.mul_(contrast).add_(mean, alpha=1 - contrast).clamp_(0, 255).floor_()
    grey = _whole_grey(values)
    return values.mul_(saturation).add_(grey, alpha=1 - saturation).clamp_(0, 255).byte()


def _whole_grey(values: Tensor) -> Tensor:
    red, green, blue = values
    return red.mul(_GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).floor_()


def apply_looks(squares: Tensor, size: int, looks: Tensor) -> Tensor:
    """Crop, flip and jitter a batch, each image by its own look, in a few products that run wherever the batch lies.

    Args:
        squares: uint8 [n, 3, H, W].
        size: height and width of the result.
        looks: `Look.row` of each image, float32 [n, 8].

    Returns:
        Pixels from 0 to 255, float32 [n, 3, size, size].
    """
    top, left, height, width, flip, brightness, contrast, saturation = looks.T
    down = _resize_weights(top, height, squares.shape[2], size, torch.zeros_like(flip))
    across = _resize_weights(left, width, squares.shape[3], size, flip)
    pixels = down.unsqueeze(1) @ squares.float() @ across.unsqueeze(1).mT
    pixels = (pixels * _each(brightness)).clamp(0, 255)
    pixels = _blend(pixels, _grey(pixels).mean((2, 3), keepdim=True), contrast)
    return _blend(pixels, _grey(pixels), saturation)


def _resize_weights(first: Tensor, length: Tensor, side: int, size: int, reverse: Tensor) -> Tensor:
    """How much each of `side` pixels gives to each of `size` new ones, in every image [n, size, side].

    It is the bilinear filter with antialiasing: a triangle over the place of the new pixel, as wide as the pixels are far apart.
    """
    places = torch.arange(size, device=first.device) + 0.5
    scale, first, length, reverse = (value.view(-1, 1, 1) for value in (length / size, first, length, reverse))
    centres = (first + scale * (places + reverse * (size - 2 * places))).mT
    old = torch.arange(side, device=first.device) + 0.5
    weights = (1 - (old - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((old > first) & (old < first + length))
    return weights / weights.sum(2, keepdim=True)


def _each(factors: Tensor) -> Tensor:
    return factors.view(-1, 1, 1, 1)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


def _blend(pixels: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    return (pixels * _each(factors) + other * (1 - _each(factors))).clamp(0, 255)
