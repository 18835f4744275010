"""Decoded images in one block of memory that the training process and its workers share, so that each is decoded once."""

import mmap
import multiprocessing

import torch
from torch import Tensor


class SharedImages:
    """Room for the pixels of the first images of a data set, all of one size; whichever process has decoded one puts it there.

    The block is anonymous memory that forked processes share. It takes what has been put there and no more, is no part of
    `/dev/shm`, which containers keep small, and ends with the processes.

    Args:
        images: number of images of the data set.
        side: height and width of their pixels.
        most: bytes that the block may take; images for which there is no room are decoded every time.
    """

    def __init__(self, images: int, side: int, most: float) -> None:
        self._images, self.bytes_each = images, 3 * side * side
        self.room = max(0, min(images, int(most // self.bytes_each)))
        # one more byte each says whether the image is there
        block = mmap.mmap(-1, max(1, self.room * (self.bytes_each + 1)))
        whole = torch.frombuffer(block, dtype=torch.uint8)
        self._pixels = whole[: self.room * self.bytes_each].view(self.room, 3, side, side)
        self._there = whole[self.room * self.bytes_each :]
        # so that a process that finds an image there sees all of its pixels, on any processor
        self._lock = multiprocessing.get_context("fork").Lock()

    def told(self, workers: int) -> str:
        """A sentence that says how many images are kept, in how much memory, and for whom."""
        shared, most = f", shared by {workers} workers" if workers else "", self.room * self.bytes_each / 2**30
        kept = f"{self.room:,} of {self._images:,}, up to {most:.2f} GiB{shared}"
        return f"decoded images are kept in memory: {kept} (--cache-gib)"

    def get(self, index: int) -> Tensor | None:
        """Pixels of an image, uint8 [3, side, side], which lie in the block and must not be changed; None if it is not there."""
        if index >= self.room:
            return None
        with self._lock:
            there = bool(self._there[index])
        return self._pixels[index] if there else None

    def put(self, index: int, pixels: Tensor) -> None:
        """Keep the pixels of an image, uint8 [3, side, side], if there is room."""
        if index < self.room:
            self._pixels[index] = pixels  # two processes that decode the same image write the same
            with self._lock:
                self._there[index] = 1
