"""What an image can be found again by in another file: its bytes, its pixels, and the fundus hash of what it shows."""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from mgll.images.files import ImageError, image_sha256
from mgll.images.fundus_hash import fundus_hashes
from mgll.images.opening import open_image, pixels_sha256
from mgll.images.resized import what_was_done

_IMAGES_A_WORKER = 500  # fewer are not worth the start of a process


@dataclass(frozen=True)
class Look:
    """Digests of an image; of the original where a copy scaled down says what it was made of (`mgll.images.resized`).

    Attributes:
        file: hex SHA-256 of the bytes as they are stored.
        pixels: hex SHA-256 of the decoded pixels and their extent; empty for an image of one colour, which shows nobody.
        hashes: its fundus hashes [4 views, 4 words]; None where it shows no structure.
    """

    file: str
    pixels: str
    hashes: np.ndarray | None


#: What was found, by path.
Looks = dict[str, Look | ImageError]


def look(path: str) -> Look | ImageError:
    """The digests of one image, or why it can't be read."""
    try:
        image = open_image(path)
        original = what_was_done(image)
        if original:
            return Look(original.file, original.pixels, fundus_hashes(image))
        return Look(image_sha256(path), pixels_sha256(image), fundus_hashes(image))
    except ImageError as error:
        return error


def look_at(
    paths: Iterable[str],
    known: Looks | None = None,
    processes: int | None = None,
    bar: str | None = "looking at images",
) -> Looks:
    """The digests of many images by path, in several processes where they are worth it, with a bar of progress on a terminal.

    Args:
        paths: images.
        known: digests found before; the images in it are not opened again, and the others are added to it.
        processes: at most so many; None for one a core.
        bar: what the bar of progress is called; None shows none.
    """
    paths, looks = list(dict.fromkeys(paths)), {} if known is None else known
    missing = [path for path in paths if path not in looks]
    workers = min(processes or os.cpu_count() or 1, len(missing) // _IMAGES_A_WORKER)
    with tqdm(total=len(missing), desc=bar, unit="image", leave=False, disable=None if bar else True) as progress:
        if workers < 2:
            for path in missing:
                looks[path] = look(path)
                progress.update()
            return {path: looks[path] for path in paths}
        # Spawned, not forked: the caller may hold threads (torch does).
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for path, found in zip(missing, pool.map(look, missing, chunksize=32), strict=True):
                looks[path] = found
                progress.update()
    return {path: looks[path] for path in paths}


def stacked_hashes(looks: Iterable[Look | ImageError]) -> tuple[list[int], np.ndarray]:
    """Places of the images that have fundus hashes, and these hashes [n, 4, 4]."""
    known = {
        place: found.hashes for place, found in enumerate(looks) if isinstance(found, Look) and found.hashes is not None
    }
    return list(known), np.stack(list(known.values())) if known else np.zeros((0, 4, 4), dtype=np.uint64)
