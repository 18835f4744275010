"""JPEG files of 12 bits a sample (JPEG Extended), which Pillow does not read: decoded by GDCM, from the extra `dicom`.

GDCM itself writes 16 into such a file where a pixel takes 16 bits; it is the only one that reads that.
"""

import signal
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mgll.images.files import ImageError

_DECODER = str(Path(__file__).with_name("gdcm_jpeg.py"))
_START_OF_FRAME = {0xC0 + kind for kind in range(16)} - {0xC4, 0xC8, 0xCC}


def bits_of_jpeg(content: bytes) -> int | None:
    """Bits a sample that the header of a JPEG file says; None where the bytes are no JPEG file."""
    frame = _frame(content)
    return frame[0] if frame else None


def read_jpeg12(content: bytes, max_pixels: int, stored: int | None = None) -> np.ndarray:
    """Decode a grey JPEG file of 12 or 16 bits a sample: uint16 [H, W].

    Args:
        content: the whole file.
        max_pixels: refuse larger images before decoding them.
        stored: how many of the bits hold a value, where a DICOM header says so.

    Raises:
        ImageError: for another kind of file, colour, a damaged file, or where GDCM is not installed.
        OSError, MemoryError: if the decoder can't be started, or memory runs out.
    """
    bits, height, width, samples = _frame(content) or (0, 0, 0, 0)
    if bits not in (12, 16) or samples != 1:
        raise ImageError(
            f"a JPEG file of {samples} x {bits} bits a pixel; with more than 8, only grey is read, of 12 or 16"
        )
    if not 0 < height * width <= max_pixels:
        raise ImageError(f"{width} x {height} is not between 1 and {max_pixels / 1e6:.0f} megapixels")
    if find_spec("gdcm") is None:
        raise ImageError(f"a JPEG file of {bits} bits a sample; pip install mgll-graft[dicom] to read it")
    numbers = [str(number) for number in (width, height, bits, min(stored or bits, bits))]
    decoded = subprocess.run([sys.executable, "-P", _DECODER, *numbers], input=content, capture_output=True)
    if decoded.returncode == -signal.SIGKILL:
        raise MemoryError("the system ended the decoder of a JPEG file")
    if decoded.returncode or len(decoded.stdout) != 2 * width * height:
        raise ImageError(f"a damaged JPEG file of {bits} bits a sample")
    return np.frombuffer(decoded.stdout, np.uint16).reshape(height, width)


def _frame(content: bytes) -> tuple[int, int, int, int] | None:
    """Bits a sample, height, width and samples a pixel, from the start of the frame; None where the bytes are no JPEG file."""
    place = 2 if content[:2] == b"\xff\xd8" else len(content)
    while place + 10 <= len(content) and content[place] == 0xFF:
        if content[place + 1] in _START_OF_FRAME:
            bits, height, width, samples = struct.unpack_from(">BHHB", content, place + 4)
            return bits, height, width, samples
        # 0xFF may fill the space before a marker
        place += 1 if content[place + 1] == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4])
    return None
