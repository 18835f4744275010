"""Broken images named together: who has mended one should not have to start again to hear of the next."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from mgll.images.files import ImageError
from mgll.images.opening import open_image

#: As many are named; there the look at the others ends.
NAMED = 10


@contextmanager
def broken_named_together(images: Sequence[str | os.PathLike[str]], show: bool = True) -> Iterator[None]:
    """Where what is done with images stops at one that cannot be read, all of them are looked at, and those are named in one line.

    Args:
        images: paths of all images that the block reads, each as often as it likes.
        show: draw a progress bar of the look.

    Raises:
        ImageError: naming up to `NAMED` images that cannot be read, each with its reason, and how many were looked at.
    """
    try:
        yield
    except ImageError as first:
        found, looked = [], 0
        for image in tqdm(dict.fromkeys(images), "looking for others", unit="image", leave=False, disable=not show):
            looked += 1
            try:
                open_image(image, at_least=1)  # the smallest draft reads the whole file too
            except ImageError as error:
                found.append(" ".join(str(error).split()))
                if len(found) == NAMED:
                    break
        if len(found) > 1:
            raise ImageError(
                f"{len(found)} images cannot be read, of {looked:,} looked at: {'; '.join(found)}"
            ) from first
        if found and "Traceback" in str(first):  # it comes from a worker of torch's, which tells all it knows
            raise ImageError(found[0]) from first
        raise
