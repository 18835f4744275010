"""The list of the images that training had to leave out."""

from collections.abc import Collection
from pathlib import Path

from mgll.files import write_text
from mgll.images.preprocessing import ImageError, open_image


def write_damaged(run: Path, paths: Collection[str]) -> Path:
    """Write `damaged_images.txt` into the folder of a run: one line per image, with its path and what is wrong with it.

    The processes that decode images only report which ones they could not read; therefore each is opened once more to learn the
    reason. If no image is damaged, the list of an earlier run is deleted.

    Returns:
        The path of the list.
    """
    listed = run / "damaged_images.txt"
    if paths:
        write_text(listed, "".join(f"{_damage(path)}\n" for path in sorted(paths)))
    else:
        listed.unlink(missing_ok=True)
    return listed


def _damage(path: str) -> str:
    try:
        open_image(path)
    except ImageError as error:
        return " ".join(str(error).split("\n"))
    return f"{path}: could not be read in training, and can be now"
