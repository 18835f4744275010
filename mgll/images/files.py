"""Images that do not lie in a file of their own: members of tar shards, and arrays in npz files.

`SHARD.tar::NAME@OFFSET` names the member NAME of an uncompressed tar file whose header begins at byte OFFSET. Therefore images
can be read directly, in any order, and nothing has to be unpacked, listed or kept in memory.
"""

import hashlib
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mgll.files import sha256
from mgll.machine_errors import named, stop_if_of_the_machine

#: Bytes that are read at once from a shard.
_BUFFER = 1 << 16
_MEMBER = re.compile(r"(?P<shard>.+?\.tar)::(?P<name>.+)@(?P<offset>\d+)", re.DOTALL)


class ImageError(ValueError):
    """An image that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class TarMember:
    """A regular file in an uncompressed tar file; `str` gives the form that a manifest holds.

    Attributes:
        shard: path of the tar file.
        name: name of the member as the 512 bytes of its header hold it.
        offset: byte of the tar file at which the member's header begins.
    """

    shard: str
    name: str
    offset: int

    def __str__(self) -> str:
        return f"{self.shard}::{self.name}@{self.offset}"

    @classmethod
    def at(cls, shard: str, file: IO[bytes], offset: int) -> "TarMember":
        """The member whose header begins at `offset` of the open shard."""
        file.seek(offset)
        return cls(shard, _header(file).name, offset)

    def open(self) -> io.BufferedReader:
        """The member's bytes as a file, of which no more than is read comes into memory.

        Raises:
            ImageError: if the shard is missing, cut short, or no longer holds this member at this place.
            OSError, MemoryError: if the machine can't read it.
        """
        try:
            with ExitStack() as closing:
                file = closing.enter_context(io.FileIO(self.shard))
                file.seek(self.offset)
                header = _header(file)
                if header.name != self.name or not header.isreg():
                    raise ImageError(
                        f"{self}: the shard holds {header.name!r} there; was it packed anew? Index it again"
                    )
                start = file.tell()
                if not 0 <= header.size <= file.seek(0, os.SEEK_END) - start:
                    raise ImageError(f"{self}: the shard is cut short")
                closing.pop_all()
                return io.BufferedReader(_Window(file, start, start + header.size), _BUFFER)
        except FileNotFoundError:
            raise ImageError(f"{self}: no such shard") from None
        except (tarfile.HeaderError, OSError, OverflowError) as error:
            stop_if_of_the_machine(error, self.shard)
            raise ImageError(
                f"{self}: no member begins there ({error}); was the shard packed anew? Index it again"
            ) from None

    def read(self) -> bytes:
        """All of the member's bytes.

        Raises:
            ImageError, OSError, MemoryError: as `open`.
        """
        with self.open() as file:
            return file.read()


class _Window(io.RawIOBase):
    """The bytes from `start` to `end` of a file, which it closes, as a file of its own."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(memoryview(buffer)[: max(0, self._end - self._file.tell())]) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        place = offset + {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}[whence]
        if place < self._start:
            raise ValueError(f"a place of {place - self._start} is before the file")
        return self._file.seek(place) - self._start

    def close(self) -> None:
        self._file.close()
        super().close()


def _header(file: IO[bytes] | io.FileIO) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")


def tar_member(path: str | os.PathLike[str]) -> TarMember | None:
    """The member of a shard that an image path names; None for the path of a plain file."""
    found = _MEMBER.fullmatch(os.fspath(path))
    return TarMember(found["shard"], found["name"], int(found["offset"])) if found else None


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[str, io.BufferedReader]]:
    """The name of an image, whose ending tells the format, and its bytes as an open file.

    Raises:
        ImageError: if the image is missing or empty.
        OSError: if the machine can't read it.
    """
    member, path = tar_member(path), Path(path)
    if not member and not path.is_file():  # reading a pipe may never end
        raise ImageError(f"{path}: no such image")
    with member.open() if member else path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        file.seek(0)
        try:
            yield member.name if member else path.name, file
        except OSError as error:
            raise named(error, path) from None


def image_exists(path: str | os.PathLike[str]) -> bool:
    """Whether the image's file, or the shard it lies in, is there."""
    member = tar_member(path)
    return Path(member.shard if member else path).is_file()


def image_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of an image's bytes as they are stored, in a file of its own or in a shard.

    Raises:
        ImageError: if the image is a member of a shard that is missing or empty.
        OSError: if a file is missing, or the machine can't read it.
    """
    if not tar_member(path):
        return sha256(path)
    with opened(path) as (_, file):
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_npz(path: str | os.PathLike[str], file: io.BufferedReader, max_pixels: int) -> np.ndarray:
    """The array `image` of an npz file, or its only array: uint8 [H, W] or [H, W, 3], checked before memory is allocated.

    Args:
        path: the path that error messages name.
        file: the open file.
        max_pixels: refuse larger images.

    Raises:
        ImageError: if the file holds anything else, such as pickled objects, or is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = archive.namelist()
            if "image.npy" not in arrays and len(arrays) != 1:
                raise ImageError(f"{path}: expected one array, or one called 'image', found {arrays}")
            with archive.open("image.npy" if "image.npy" in arrays else arrays[0]) as array:
                return _read_npy(path, array, max_pixels)
    except ImageError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        stop_if_of_the_machine(error, path)
        raise ImageError(f"{path}: damaged npz file ({error})") from None


def _read_npy(path: str | os.PathLike[str], file: IO[bytes], max_pixels: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise ImageError(f"{path}: expected uint8 [H, W] or [H, W, 3], found {dtype} {list(shape)}")
    pixels, size = shape[0] * shape[1], int(np.prod(shape, dtype=object))
    if not 0 < pixels <= max_pixels:
        raise ImageError(
            f"{path}: {shape[1]} x {shape[0]} is not between 1 and {max_pixels / 1e6:.0f} megapixels; scale it down"
        )
    content = file.read(size)
    if len(content) < size:
        raise ImageError(f"{path}: the array is cut short ({len(content)} of {size} bytes)")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
