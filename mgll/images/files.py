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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mgll.files import sha256
from mgll.machine_errors import stop_if_of_the_machine

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

    def read(self) -> bytes:
        """The member's bytes.

        Raises:
            ImageError: if the shard is missing, cut short, or no longer holds this member at this place.
            OSError, MemoryError: if the machine can't read it.
        """
        try:
            with Path(self.shard).open("rb") as file:
                file.seek(self.offset)
                header = _header(file)
                if header.name != self.name or not header.isreg():
                    raise ImageError(
                        f"{self}: the shard holds {header.name!r} there; was it packed anew? Index it again"
                    )
                content = file.read(header.size)
        except FileNotFoundError:
            raise ImageError(f"{self}: no such shard") from None
        except (tarfile.HeaderError, OSError) as error:
            stop_if_of_the_machine(error, self.shard)
            raise ImageError(
                f"{self}: no member begins there ({error}); was the shard packed anew? Index it again"
            ) from None
        if len(content) < header.size:
            raise ImageError(f"{self}: the shard is cut short")
        return content


def _header(file: IO[bytes]) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")


def tar_member(path: str | os.PathLike[str]) -> TarMember | None:
    """The member of a shard that an image path names; None for the path of a plain file."""
    found = _MEMBER.fullmatch(os.fspath(path))
    return TarMember(found["shard"], found["name"], int(found["offset"])) if found else None


def locate(path: str | os.PathLike[str]) -> tuple[str, Path | io.BytesIO]:
    """The name of an image, whose ending tells the format, and the file or the bytes to decode.

    Raises:
        ImageError: if the image is missing or empty.
    """
    if member := tar_member(path):
        content = member.read()
        if not content:
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        return member.name, io.BytesIO(content)
    file = Path(path)
    if not file.is_file():
        raise ImageError(f"{path}: no such image")
    if file.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes)")
    return file.name, file


def image_exists(path: str | os.PathLike[str]) -> bool:
    """Whether the image's file, or the shard it lies in, is there."""
    member = tar_member(path)
    return Path(member.shard if member else path).is_file()


def image_bytes(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """The ending of an image's name in lower case, and its bytes as they are stored.

    Raises:
        ImageError: if the image is missing or empty.
    """
    name, file = locate(path)
    return Path(name).suffix.lower(), file.read_bytes() if isinstance(file, Path) else file.getvalue()


def image_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of an image's bytes as they are stored, in a file of its own or in a shard."""
    return hashlib.sha256(image_bytes(path)[1]).hexdigest() if tar_member(path) else sha256(path)


def read_npz(path: str | os.PathLike[str], file: Path | io.BytesIO, max_pixels: int) -> np.ndarray:
    """The array `image` of an npz file, or its only array: uint8 [H, W] or [H, W, 3], checked before memory is allocated.

    Args:
        path: the path that error messages name.
        file: the file, or its bytes.
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
