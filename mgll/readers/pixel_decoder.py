"""Compressed pixels of DICOM files decoded in a process apart, because GDCM ends its process over some damaged files."""

import signal
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import numpy as np

from mgll.images.files import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset


def decode(header: "Dataset", photometric: str) -> np.ndarray:
    """The stored values [H, W], as pydicom and its decoders give them, with all bits that are allocated.

    Args:
        header: a data set with its pixels.
        photometric: what PhotometricInterpretation says, in the standard's spelling.

    Raises:
        ImageError: if the decoder crashes.
        MemoryError: if the system ends the decoder.
        Exception: whatever pydicom raises.
    """
    # optional, from the extra `dicom`
    from pydicom.uid import RLELossless

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:  # decoded in Python
        return _decode(header, photometric)
    pixels = header.group_dataset(0x0028)
    pixels["PixelData"], pixels.file_meta = header["PixelData"], header.file_meta
    process, pipe = _decoder()
    try:
        pipe.send((pixels, photometric))
        decoded: np.ndarray | Exception = pipe.recv()
    except (EOFError, OSError):  # it is gone
        _decoder.cache_clear()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError("the system ended the decoder") from None
        raise ImageError("the decoder crashes over the pixels") from None
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


@cache
def _decoder() -> tuple[BaseProcess, "Connection"]:
    """The process that decodes for this one, and the pipe to it."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()  # else its end would not be noticed
    return process, here


def _serve(pipe: "Connection") -> None:
    """Decode what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that asks, which closes the pipe
    while True:
        try:
            pixels, photometric = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_decode(pixels, photometric))
        except Exception as error:
            pipe.send(error)


def _decode(header: "Dataset", photometric: str) -> np.ndarray:
    from pydicom.pixels import pixel_array

    return pixel_array(header, correct_unused_bits=False, photometric_interpretation=photometric)
