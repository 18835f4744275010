"""Stored values of a radiograph in DICOM: which bits of a pixel hold the image, and which pixels are none."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mgll.images.files import ImageError
from mgll.images.jpeg12 import read_jpeg12
from mgll.readers.pixel_decoder import decode

if TYPE_CHECKING:
    from pydicom import Dataset


def stored_values(header: "Dataset", max_pixels: int, notes: Counter[str]) -> np.ndarray:
    """Stored values [H, W], integers: the bits that hold the image, whatever BitsStored and HighBit say of them.

    Args:
        header: a data set with its pixels.
        max_pixels: refuse larger images before decoding them.
        notes: counts what was read otherwise than the header says.

    Raises:
        ImageError: for pixels that can't be decoded.
        Exception: whatever pydicom raises.
    """
    from pydicom.uid import JPEGExtended12Bit

    stored, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    if header.file_meta.TransferSyntaxUID == JPEGExtended12Bit and stored > 8:  # pydicom has no free decoder for it
        values = _jpeg12(header, max_pixels)
    else:
        values = decode(header, word(header, "PhotometricInterpretation"))
    above = int(header.get("HighBit") or stored - 1) - (stored - 1)
    image = values[~padding(values, header)]
    if _fits(image, stored, signed):
        if above > 0:
            notes[f"read from the lower bits, though HighBit says {header.HighBit} for {stored} bits"] += 1
        return values
    if above > 0:
        values = values >> above
        if _fits(values, stored, signed):
            return values
    unused = values.dtype.itemsize * 8 - stored
    cut = (values << unused) >> unused  # keeps the sign
    if (signed and _fits(values.view(f"u{values.dtype.itemsize}"), stored, False)) or _overlay_in_pixels(header):
        return cut
    notes[f"read with all bits, because values exceed the {stored} that BitsStored says"] += 1
    return values


def _jpeg12(header: "Dataset", max_pixels: int) -> np.ndarray:
    from pydicom.encaps import generate_frames

    values = read_jpeg12(next(generate_frames(header.PixelData, number_of_frames=1)), max_pixels, header.BitsStored)
    if values.shape != (header.Rows, header.Columns):
        raise ImageError(
            f"the JPEG image is {values.shape[1]} x {values.shape[0]}, the header says {header.Columns} x {header.Rows}"
        )
    return values.astype(np.int16) if header.PixelRepresentation else values


def _fits(values: np.ndarray, bits: int, signed: bool) -> bool:
    lowest = -(1 << (bits - 1)) if signed else 0
    return not values.size or (int(values.min()) >= lowest and int(values.max()) < lowest + (1 << bits))


def _overlay_in_pixels(header: "Dataset") -> bool:
    """Whether unused bits hold an overlay, as old files do: its position in a pixel is not 0 and it has no data of its own."""
    groups = range(0x6000, 0x6020, 2)
    positions = (header.get((group, 0x0102)) for group in groups if (group, 0x3000) not in header)
    return any(position is not None and position.value for position in positions)


def padding(stored: np.ndarray, header: "Dataset") -> np.ndarray:
    """Mask [H, W] of the pixels that are no image: stored values from PixelPaddingValue to PixelPaddingRangeLimit."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    bits, signed = stored.dtype.itemsize * 8, stored.dtype.kind == "i"
    low, high = sorted(with_sign(int(end), bits, signed) for end in (first, first if last is None else last))
    return np.asarray((stored >= low) & (stored <= high))


def with_sign(value: int, bits: int, signed: bool) -> int:
    """A value of that many bits as signed or unsigned, whichever it was written as: many files tag it with the wrong one."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def word(header: "Dataset", name: str) -> str:
    """A code of the header in capitals and without spaces at its ends; empty where there is none."""
    return str(header.get(name) or "").strip().upper()
