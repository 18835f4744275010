"""Pixels of a radiograph in DICOM as 8-bit grey: as a viewer would show them, dark where few rays were absorbed.

Decoding and windows are pydicom's. What headers get wrong in practice is mended where the pixels tell what is meant, and noted;
where they do not, the file is left out with the reason.
"""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mgll.images.files import ImageError
from mgll.images.grey_range import grey_range, to_8_bits
from mgll.images.jpeg12 import read_jpeg12
from mgll.images.preprocessing import MAX_PIXELS
from mgll.machine_errors import stop_if_of_the_machine
from mgll.readers.pixel_decoder import decode

if TYPE_CHECKING:
    from pydicom import Dataset


#: A window that leaves a smaller share of the pixels grey is a mistake: of its unit, or of what was never filled in.
_LEAST_GREY = 0.05


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
    stored = _stored(header, max_pixels, notes)
    image = ~_padding(stored, header)
    if not image.any():
        raise ImageError("every pixel is padding")
    shown = _windowed(_rescaled(stored, header), header, image, notes)
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
    photometric = _word(header, "PhotometricInterpretation")
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
    kinds = _word(header, "PresentationIntentType"), UID(str(header.get("SOPClassUID", ""))).name.upper()
    if any(kind.endswith("FOR PROCESSING") for kind in kinds):
        raise ImageError("FOR PROCESSING: the raw values of a detector, which no viewer shows as they are")


def _is_negative(header: "Dataset") -> bool:
    """Whether the lowest value is white. A shape of the presentation LUT that says so counts for MONOCHROME2 too (PS3.3 C.11.4)."""
    photometric, shape = _word(header, "PhotometricInterpretation"), _word(header, "PresentationLUTShape")
    if header.get("PresentationLUTSequence") or shape not in ("", "IDENTITY", "INVERSE"):
        raise ImageError(f"a presentation LUT ({shape or 'a table'}) is not applied; only IDENTITY and INVERSE are")
    if (photometric, shape) == ("MONOCHROME1", "IDENTITY"):
        raise ImageError("PresentationLUTShape IDENTITY contradicts MONOCHROME1: it may be a negative or not")
    return photometric == "MONOCHROME1" or shape == "INVERSE"


def _stored(header: "Dataset", max_pixels: int, notes: Counter[str]) -> np.ndarray:
    """Stored values [H, W], integers: the bits that hold the image, whatever BitsStored and HighBit say of them."""
    from pydicom.uid import JPEGExtended12Bit

    stored, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    if header.file_meta.TransferSyntaxUID == JPEGExtended12Bit and stored > 8:  # pydicom has no free decoder for it
        values = _jpeg12(header, max_pixels)
    else:
        values = decode(header, _word(header, "PhotometricInterpretation"))
    above = int(header.get("HighBit") or stored - 1) - (stored - 1)
    image = values[~_padding(values, header)]
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


def _rescaled(stored: np.ndarray, header: "Dataset") -> np.ndarray:
    """Values in the units of the modality: looked up, or slope and intercept applied; an empty slope is 1, an empty intercept 0."""
    if table := _first_table(header, "ModalityLUTSequence"):
        return _looked_up(stored, table, header)
    slope, intercept = (header.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and intercept is None:
        return stored
    slope, intercept = 1.0 if slope is None else float(slope), float(intercept or 0)
    if not slope or not math.isfinite(slope) or not math.isfinite(intercept):
        raise ImageError(f"RescaleSlope {slope}, RescaleIntercept {intercept}")
    return np.asarray(stored * slope + intercept)


def _windowed(values: np.ndarray, header: "Dataset", image: np.ndarray, notes: Counter[str]) -> np.ndarray:
    """Values through the first VOI LUT or, without one, the first window, unless that leaves hardly any grey."""
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    table = _first_table(header, "VOILUTSequence")
    if table and _share_of_grey((shown := _looked_up(values, table, header))[image]) >= _LEAST_GREY:
        return shown
    centre, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        if table:  # which may be the negative of the values
            raise ImageError("its VOI LUT shows hardly more than black and white")
        return values
    # A data set of its own: pydicom looks at fields whose mistakes were mended above.
    window = Dataset()
    window.PhotometricInterpretation, window.PixelRepresentation, window.BitsStored = "MONOCHROME2", 0, 16
    window.WindowCenter, window.WindowWidth = float(centre), float(width)
    window.VOILUTFunction = function = _word(header, "VOILUTFunction") or "LINEAR"
    if width > (1 if function == "LINEAR" else 0) and math.isfinite(centre + width):
        with np.errstate(over="ignore"):  # far below the centre of a sigmoid, 1 / (1 + inf) is the 0 that is meant
            shown = apply_windowing(values, window)
        if _share_of_grey(shown[image]) >= _LEAST_GREY:
            return shown
    notes["read over the whole range, because the window shows hardly more than black and white"] += 1
    return values


def _share_of_grey(shown: np.ndarray) -> float:
    """Share of the pixels that are neither black nor white at 8 bits."""
    low, high = float(shown.min()), float(shown.max())
    step = (high - low) / 255
    return float(((shown > low + step) & (shown < high - step)).mean())


def _first_table(header: "Dataset", name: str) -> "Dataset | None":
    tables: list[Dataset] = list(header.get(name) or ())[:1]
    return next((table for table in tables if table.get("LUTDescriptor") and table.get("LUTData")), None)


def _looked_up(values: np.ndarray, table: "Dataset", header: "Dataset") -> np.ndarray:
    """Values through a lookup table. Not pydicom's, which counts the entries of an 8-bit table in 8 bits.

    Raises:
        ImageError: if the table has fewer entries than it says.
    """
    entries, first, _ = (int(number) for number in table.LUTDescriptor)
    entries = entries & 0xFFFF or 1 << 16
    words = table.LUTData
    if isinstance(words, bytes):
        words = np.frombuffer(words, "<u2" if header.file_meta.TransferSyntaxUID.is_little_endian else ">u2")
    data = np.asarray(words, dtype="<u2").reshape(-1)
    if len(data) < entries <= 2 * len(data):
        data = data.view(np.uint8)  # entries of 8 bits, two a word
    if len(data) < entries:
        raise ImageError(f"a lookup table of {len(data)} entries that says it has {entries}")
    signed = bool(header.PixelRepresentation) or float(header.get("RescaleIntercept") or 0) < 0
    places = np.rint(values).astype(np.int64) - _with_sign(first, 16, signed)
    return data[places.clip(0, entries - 1)]


def _padding(stored: np.ndarray, header: "Dataset") -> np.ndarray:
    """Mask [H, W] of the pixels that are no image: stored values from PixelPaddingValue to PixelPaddingRangeLimit."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    bits, signed = stored.dtype.itemsize * 8, stored.dtype.kind == "i"
    low, high = sorted(_with_sign(int(end), bits, signed) for end in (first, first if last is None else last))
    return np.asarray((stored >= low) & (stored <= high))


def _with_sign(value: int, bits: int, signed: bool) -> int:
    """A value of that many bits as signed or unsigned, whichever it was written as: many files tag it with the wrong one."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _first(value: Any) -> Any:
    """The first of several values, or the only one; None where there is none."""
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    return next(iter(value), None) if several else value


def _word(header: "Dataset", name: str) -> str:
    return str(header.get(name) or "").strip().upper()
