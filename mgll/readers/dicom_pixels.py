"""Pixels of a radiograph in DICOM as 8-bit grey: as a viewer would show them, dark where few rays were absorbed."""

from typing import TYPE_CHECKING

import numpy as np

from mgll.images.files import ImageError
from mgll.images.preprocessing import MAX_PIXELS

if TYPE_CHECKING:
    from pydicom import Dataset


def grey_pixels(header: "Dataset", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels uint8 [H, W]: rescaled, windowed (VOI LUT, first window or whole range), MONOCHROME1 inverted, padding black.

    The result spans 0 to 255, so a radiograph of 10 bits in 16 is not dark.

    Args:
        header: a DICOM data set with its pixels.
        max_pixels: refuse larger images before decoding them.

    Raises:
        ImageError: for colour, several frames, an empty, constant or too large image, or pixels that can't be decoded.
    """
    # optional, from the extra `dicom`
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    _check(header, max_pixels)
    try:
        stored = header.pixel_array
        shown = np.asarray(apply_voi_lut(apply_modality_lut(stored, header), header), dtype=np.float64)
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f"pixels can't be decoded ({error})") from None
    padding = _padding(stored, header)
    low, high = (
        float(extreme(shown[~padding], initial=start)) for extreme, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    if not low < high:
        raise ImageError("every pixel has the same value")
    grey = (shown - low) * (255 / (high - low))
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return np.where(padding, 0, np.clip(np.rint(grey), 0, 255)).astype(np.uint8)


def _check(header: "Dataset", max_pixels: int) -> None:
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames; a radiograph has one")
    photometric = header.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"PhotometricInterpretation {photometric}; a radiograph is MONOCHROME1 or MONOCHROME2")
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if not 0 < rows * columns <= max_pixels:
        raise ImageError(f"{columns} x {rows} is not between 1 and {max_pixels / 1e6:.0f} megapixels")
    if "PixelData" not in header:
        raise ImageError("no pixels")


def _padding(stored: np.ndarray, header: "Dataset") -> np.ndarray:
    """Mask [H, W] of the pixels that are no image: stored values from PixelPaddingValue to PixelPaddingRangeLimit."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((stored >= low) & (stored <= high))
