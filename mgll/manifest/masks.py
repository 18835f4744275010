"""Masks of the images of a manifest: a side table `NAME.masks.jsonl` beside `NAME.jsonl`, a line for each structure of each image.

    {"schema": "mgll.masks/1"}
    {"image": "images/g0001.jpg", "label": "optic cup", "mask": "masks/g0001.bmp", "values": [0]}

An image without a line for a structure was not looked at for it; a line without a `mask` says that there is none.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from mgll.formats import FormatError, Row, numbered_rows, write_rows
from mgll.images.files import ImageError

SCHEMA = "mgll.masks/1"


class Mask(Row):
    """Where a structure is in an image.

    Attributes:
        image: path of the image as in the manifest, relative to the table's folder (or absolute).
        label: what is drawn, in words, such as `optic disc`: it is the structure's prompt too.
        mask: picture of the same height and width, relative to the table's folder; None if the image has no such structure.
        values: pixel values of the structure in that picture; empty takes all that are not 0.
    """

    image: str = Field(min_length=1)
    label: str = Field(min_length=1)
    mask: str | None = None
    values: tuple[int, ...] = ()


def masks_beside(manifest: str | os.PathLike[str]) -> Path:
    """Where the masks of a manifest lie."""
    return Path(manifest).with_suffix(".masks.jsonl")


def write_masks(path: str | os.PathLike[str], masks: Iterable[Mask], **header: object) -> None:
    """Write a side table atomically."""
    write_rows(path, SCHEMA, masks, **header)


def read_masks(path: str | os.PathLike[str]) -> dict[str, dict[str, Mask]]:
    """Absolute path of an image -> label -> its mask, with the path of its picture resolved.

    Raises:
        FormatError: naming line and field of the first wrong row, or one that says again what another said.
    """
    folder, found = Path(path).absolute().parent, dict[str, dict[str, Mask]]()
    for number, row in numbered_rows(path, SCHEMA, Mask):
        own = found.setdefault(os.path.normpath(folder / row.image), {})
        if row.label in own:
            raise FormatError(path, number, f"field label: {row.label!r} of {row.image} stands above already")
        own[row.label] = row.model_copy(update={"mask": str(folder / row.mask) if row.mask else None})
    if not found:
        raise FormatError(path, None, "no mask")
    return found


def open_mask(mask: Mask, height: int, width: int) -> np.ndarray:
    """Where the structure is: bool [height, width].

    Args:
        mask: the mask, with its path resolved.
        height: of the image that it belongs to.
        width: of that image.

    Raises:
        ImageError: if the picture is missing, damaged, or of another size.
    """
    if mask.mask is None:
        return np.zeros((height, width), dtype=bool)
    try:
        with Image.open(mask.mask) as picture:
            values = np.asarray(picture.convert("L") if picture.mode in ("1", "LA") else picture)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ImageError(f"{mask.mask}: no mask that can be read ({error})") from None
    values = values[..., :3].max(axis=2) if values.ndim == 3 else values
    if values.shape != (height, width):
        raise ImageError(
            f"{mask.mask}: {values.shape[1]} x {values.shape[0]} pixels, but its image {mask.image} has {width} x {height}"
        )
    return np.isin(values, mask.values) if mask.values else values != 0
