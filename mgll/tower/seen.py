"""What a tower was trained on, by digests: a file beside the tower, so that overlap can be found when the manifest is gone.

`mgll.ckpt` has `mgll.seen` beside it, a safetensors file with a row for every training image that could be read: the first 64 bits
of the SHA-256 of its bytes and of its pixels, and its fundus hashes. No name, text or patient is in it, but whoever has a
photograph can tell from it whether the tower saw it; `remember_images: false` writes none.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgll.files import atomic_path, sha256
from mgll.formats import FormatError
from mgll.images.files import ImageError
from mgll.images.looks import Look
from mgll.tower.file import read_header
from mgll.weights.stored import read_stored

SCHEMA = "mgll.seen/1"
#: Hex digits of a digest that are kept: 64 bits.
DIGITS = 16
_WORDS = 18  # of 64 bits a row: file, pixels, four views of four
_NAMES = {"digests": 2, "hashes": 16}  # tensors of the file and their words a row


@dataclass(frozen=True)
class SeenImages:
    """Digests of the images that a tower was trained on.

    Attributes:
        rows: as `rows_of` makes them [n, 18], uint64.
        origin: what the tower's header says under `images_seen`.
    """

    rows: np.ndarray
    origin: dict[str, object]

    @property
    def files(self) -> list[str]:
        """First `DIGITS` hex digits of the SHA-256 of each image's bytes."""
        return _hex(self.rows[:, 0])

    @property
    def pixels(self) -> list[str]:
        """First `DIGITS` hex digits of the SHA-256 of each image's pixels; empty where it has one colour."""
        return _hex(self.rows[:, 1])

    @property
    def hashes(self) -> np.ndarray:
        """Fundus hashes [n, 4 views, 4 words]; zeros where an image has none."""
        return self.rows[:, 2:].reshape(-1, 4, 4)


def seen_path(tower: str | os.PathLike[str]) -> Path:
    """The file of digests that belongs to a tower file: the same name with the ending `.seen`."""
    return Path(tower).with_suffix(".seen")


def rows_of(looks: Iterable[Look | ImageError]) -> np.ndarray:
    """Digests of the images that could be read as rows of 18 words [n, 18], uint64."""
    rows = [
        np.append(
            np.array([int(digest[:DIGITS] or "0", 16) for digest in (look.file, look.pixels)], dtype=np.uint64),
            np.zeros(16, dtype=np.uint64) if look.hashes is None else look.hashes.ravel(),
        )
        for look in looks
        if isinstance(look, Look)
    ]
    return np.stack(rows) if rows else np.zeros((0, _WORDS), dtype=np.uint64)


def save_seen(tower: str | os.PathLike[str], rows: np.ndarray, not_known: str = "") -> dict[str, object]:
    """Write the rows of `rows_of` beside a tower that is about to be written, each once and sorted.

    Args:
        tower: the tower file.
        rows: digests [n, 18].
        not_known: what else the tower was trained on, in words; empty where nothing.

    Returns:
        What the tower's origin must hold under `images_seen`: the number of rows, the file's SHA-256, and `not_known`.
    """
    # here, because safetensors takes a moment to import
    from safetensors.numpy import save_file

    rows = np.unique(rows, axis=0)
    with atomic_path(seen_path(tower)) as temporary:
        tensors = {"digests": np.ascontiguousarray(rows[:, :2]), "hashes": np.ascontiguousarray(rows[:, 2:])}
        # one entry only: safetensors writes several in an order that changes from run to run
        save_file(tensors, temporary, metadata={"mgll": json.dumps({"schema": SCHEMA})})
    return {"images": len(rows), "sha256": sha256(seen_path(tower)), "not_known": not_known}


def read_seen(tower: str | os.PathLike[str]) -> SeenImages:
    """The digests of a tower's training images.

    Raises:
        FormatError: if the file is no tower, if its pretraining recorded no images, or if its `.seen` is missing, damaged or
            another tower's.
    """
    # here, because safetensors takes a moment to import
    from safetensors.numpy import load_file

    origin = read_header(tower).origin.get("images_seen")
    if not isinstance(origin, dict):
        raise FormatError(
            tower, None, "its pretraining did not record which images it saw; give the manifest it was trained on"
        )
    path = seen_path(tower)
    if not path.is_file():
        raise FormatError(
            path, None, f"no such file; copy it along with {tower}, or give the manifest it was trained on"
        )
    if sha256(path) != origin.get("sha256"):
        raise FormatError(path, None, f"these are not the images that {tower} saw: its header says another SHA-256")
    found, _ = read_stored(path)
    shapes = {name: stored.shape for name, stored in found.items()}
    count = origin.get("images")
    if shapes != {name: (count, words) for name, words in _NAMES.items()}:
        raise FormatError(path, None, f"expected digests [{count}, 2] and hashes [{count}, 16], found {shapes}")
    tensors = load_file(path)
    return SeenImages(np.concatenate([tensors["digests"], tensors["hashes"]], axis=1), origin)


def copy_seen(tower: str | os.PathLike[str], copy: str | os.PathLike[str]) -> None:
    """Copy a tower's digests to beside a changed copy of it, if it has any."""
    if seen_path(tower).is_file() and seen_path(tower).absolute() != seen_path(copy).absolute():
        with atomic_path(seen_path(copy)) as temporary:
            shutil.copyfile(seen_path(tower), temporary)


def _hex(words: np.ndarray) -> list[str]:
    return [f"{int(word):0{DIGITS}x}" if word else "" for word in words]
