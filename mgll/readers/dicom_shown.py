"""Values of a radiograph in DICOM as they are shown: rescaled, and through a lookup table or window, as far as these make sense."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mgll.images.files import ImageError
from mgll.readers.dicom_stored import with_sign, word

if TYPE_CHECKING:
    from pydicom import Dataset

#: A window that leaves a smaller share of the pixels grey is a mistake: of its unit, or of what was never filled in.
_LEAST_GREY = 0.05


def shown_values(stored: np.ndarray, header: "Dataset", image: np.ndarray, notes: Counter[str]) -> np.ndarray:
    """What a viewer shows of stored values, before they are spread over its greys: numbers [H, W].

    Args:
        stored: integers [H, W].
        header: the data set they come from.
        image: mask [H, W] of the pixels that are no padding.
        notes: counts what was read otherwise than the header says.

    Raises:
        ImageError: for a table or slope that can't be applied.
    """
    return _windowed(_rescaled(stored, header), header, image, notes)


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
    window.VOILUTFunction = function = word(header, "VOILUTFunction") or "LINEAR"
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
    places = np.rint(values).astype(np.int64) - with_sign(first, 16, signed)
    return data[places.clip(0, entries - 1)]


def _first(value: Any) -> Any:
    """The first of several values, or the only one; None where there is none."""
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    return next(iter(value), None) if several else value
