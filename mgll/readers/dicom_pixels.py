"""Pixels of a radiograph in DICOM as 8-bit grey: as a viewer would show them, dark where few rays were absorbed.

Decoding and windows are pydicom's. What headers get wrong in practice is mended where the pixels tell what is meant, and noted;
where they do not, the file is left out with the reason.
"""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mgll.images.files import ImageError
from mgll.images.grey_range import grey_range, to_8_bits
from mgll.images.preprocessing import MAX_PIXELS
from mgll.machine_errors import stop_if_of_the_machine
from mgll.readers.dicom_shown import shown_values
from mgll.readers.dicom_stored import padding, stored_values, word

if TYPE_CHECKING:
    from pydicom import Dataset


def grey_pixels(header: "Dataset", max_pixels: int = MAX_PIXELS, notes: Counter[str] | None = None) -> np.ndarray:
    """Pixels uint8 [H, W]: rescaled, windowed (VOI LUT, first window or whole range), negatives inverted, padding black.

    The result spans 0 to 255, so a radiograph of 10 bits in 16 is not dark, whatever a few hot pixels say.

    Args:
        header: a DICOM data set with its pixels.
        max_pixels: refuse larger images before decoding them.
        notes: counts what was read otherwise than the header says.

    Raises:
        ImageError: for colour, several frames, raw values of a detector, an empty, constant or too large image, a header that
            contradicts itself, or pixels that can't be decoded.
    """
    try:
        return _grey(header, max_pixels, Counter() if notes is None else notes)
    except ImageError:
        raise
    except Exception as error:  # decoders and pydicom raise whatever a wrong header makes them stumble over
        stop_if_of_the_machine(error, str(getattr(header, "filename", None) or "the pixels"))
        raise ImageError(f"pixels can't be decoded ({' '.join(str(error).split()) or type(error).__name__})") from None


def _grey(header: "Dataset", max_pixels: int, notes: Counter[str]) -> np.ndarray:
    _check(header, max_pixels)
    negative = _is_negative(header)
    stored = stored_values(header, max_pixels, notes)
    image = ~padding(stored, header)
    if not image.any():
        raise ImageError("every pixel is padding")
    shown = shown_values(stored, header, image, notes)
    low, high = grey_range(shown[image])
    if not low < high:
        raise ImageError("every pixel has the same value")
    if ((shown < low) | (shown > high))[image].any():
        notes["read with a few hot or dead pixels, which were left out of the grey scale"] += 1
    grey = to_8_bits(shown, low, high)
    return np.where(image, 255 - grey if negative else grey, 0).astype(np.uint8)


def _check(header: "Dataset", max_pixels: int) -> None:
    # optional, from the extra `dicom`
    from pydicom.uid import UID

    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames; a radiograph has one")
    photometric = word(header, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(
            f"PhotometricInterpretation {photometric or 'missing'}; a radiograph is MONOCHROME1 or MONOCHROME2"
        )
    if (samples := header.get("SamplesPerPixel")) not in (None, 1):
        raise ImageError(f"SamplesPerPixel {samples}; a radiograph has one")
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if not 0 < rows * columns <= max_pixels:
        raise ImageError(f"{columns} x {rows} is not between 1 and {max_pixels / 1e6:.0f} megapixels")
    if not header.get("PixelData"):
        other = next((name for name in ("FloatPixelData", "DoubleFloatPixelData") if name in header), None)
        raise ImageError(f"{other}; a radiograph has PixelData" if other else "no pixels")
    if (bits := header.get("BitsAllocated")) not in (8, 16, 32):
        raise ImageError(f"BitsAllocated {bits or 'missing'}; a radiograph has 8, 16 or 32")
    kinds = word(header, "PresentationIntentType"), UID(str(header.get("SOPClassUID", ""))).name.upper()
    if any(kind.endswith("FOR PROCESSING") for kind in kinds):
        raise ImageError("FOR PROCESSING: the raw values of a detector, which no viewer shows as they are")


def _is_negative(header: "Dataset") -> bool:
    """Whether the lowest value is white. A shape of the presentation LUT that says so counts for MONOCHROME2 too (PS3.3 C.11.4)."""
    photometric, shape = word(header, "PhotometricInterpretation"), word(header, "PresentationLUTShape")
    if header.get("PresentationLUTSequence") or shape not in ("", "IDENTITY", "INVERSE"):
        raise ImageError(f"a presentation LUT ({shape or 'a table'}) is not applied; only IDENTITY and INVERSE are")
    if (photometric, shape) == ("MONOCHROME1", "IDENTITY"):
        raise ImageError("PresentationLUTShape IDENTITY contradicts MONOCHROME1: it may be a negative or not")
    return photometric == "MONOCHROME1" or shape == "INVERSE"
