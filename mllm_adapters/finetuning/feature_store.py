"""Outputs of a frozen tower that are made once: kept in memory, or in memory-mapped files that later runs read too.

A folder holds for every process that writes one file of features (`*.features`, safetensors after safetensors) and one that says
where in it they lie (`*.index`, a line each). A line is written after its bytes, so that what a kill leaves half-written is not
found again; and no process waits for another.
"""

import json
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from safetensors.torch import load, save
from torch import Tensor

Size = tuple[int, int]


class FeatureStore(Protocol):
    """Tensors by key, and the width and height in pixels of the image that they were made of."""

    def size(self, key: str) -> Size | None:
        """Size of the image; None where nothing is kept under this key."""

    def get(self, key: str) -> dict[str, Tensor]:
        """The tensors under a key that has a size."""

    def put(self, key: str, tensors: dict[str, Tensor], size: Size) -> None:
        """Keep tensors, if there is room."""


class MemoryStore:
    """Features in the memory of this process."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, Tensor], Size]] = {}

    def size(self, key: str) -> Size | None:
        """Size of the image; None where nothing is kept under this key."""
        found = self._kept.get(key)
        return found[1] if found else None

    def get(self, key: str) -> dict[str, Tensor]:
        """The tensors under a key that has a size."""
        return self._kept[key][0]

    def put(self, key: str, tensors: dict[str, Tensor], size: Size) -> None:
        """Keep tensors."""
        self._kept[key] = (tensors, size)


class DiskStore:
    """Features in a folder.

    Args:
        folder: the folder, of which the name says what decides the features beside image and view.
        most: size of the folder in bytes at which nothing more is written.
        writers: number of processes that share the room.
    """

    def __init__(self, folder: Path, most: float, writers: int = 1) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, tuple[Path, int, int, Size]] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        self._own: tuple[Path, IO[bytes], IO[str]] | None = None
        for index in sorted(folder.glob("*.index")):
            features = index.with_suffix(".features")
            end = features.stat().st_size if features.is_file() else 0
            for key, start, length, size in _entries(index):
                if start + length <= end:
                    self._places.setdefault(key, (features, start, length, size))
        self._room = (most - sum(path.stat().st_size for path in folder.glob("*.features"))) / writers

    def size(self, key: str) -> Size | None:
        """Size of the image; None where nothing is kept under this key."""
        found = self._places.get(key)
        return found[3] if found else None

    def get(self, key: str) -> dict[str, Tensor]:
        """The tensors under a key that has a size, copied out of the mapped file."""
        path, start, length, _ = self._places[key]
        mapped = self._maps.get(path)
        if mapped is None or len(mapped) < start + length:  # the file has grown since
            with path.open("rb") as file:
                mapped = self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return load(mapped[start : start + length])

    def put(self, key: str, tensors: dict[str, Tensor], size: Size) -> None:
        """Append tensors to this process's file, if the folder is not full."""
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        if len(content) > self._room or key in self._places:
            return
        path, features, index = self._own or self._begin()
        start = features.seek(0, os.SEEK_END)
        features.write(content)
        features.flush()
        index.write(json.dumps([key, start, len(content), size]) + "\n")
        index.flush()
        self._room -= len(content)
        self._places[key] = (path, start, len(content), size)

    def _begin(self) -> tuple[Path, IO[bytes], IO[str]]:
        number = 0
        while True:
            path = self._folder / f"{socket.gethostname()}-{os.getpid()}-{number}.features"
            try:
                features = path.open("xb")
                break
            except FileExistsError:  # of an earlier process with this number
                number += 1
        self._own = (path, features, path.with_suffix(".index").open("w", encoding="utf-8"))
        return self._own


def _entries(index: Path) -> Iterator[tuple[str, int, int, Size]]:
    for line in index.read_text(encoding="utf-8").splitlines():
        try:
            entry: Any = json.loads(line)
            key, start, length, (width, height) = entry
        except ValueError:  # a line that a kill cut short
            continue
        yield str(key), int(start), int(length), (int(width), int(height))
