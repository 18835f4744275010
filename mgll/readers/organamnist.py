"""OrganAMNIST, medmnist's npz file of organs in axial CT -> PNG files and a manifest.

The file `organamnist.npz` (or `organamnist_224.npz` and so on) holds `train_images` [n, size, size], `train_labels` [n, 1] of 0
to 10, and likewise `val_` and `test_`. Its images are written as PNG files into `images` beside the manifest. The organs are
classes of their own; slices of one scan share an official split, but scans are not named.

    python -m mgll.readers.organamnist organamnist.npz --out organs/manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from mgll.ending import ends_in_one_line
from mgll.files import atomic_path
from mgll.formats import FormatError
from mgll.manifest.records import Split
from mgll.readers.published_command import parser_of, write_set
from mgll.readers.published_files import find
from mgll.readers.published_set import Download, Listed, PublishedSet

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
ORGAN = "organ"


def _listed(folder: Path, notes: Counter[str], images: Path) -> Iterator[Listed]:
    path = find(folder, "organamnist*.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {split: (file[f"{split}_images"], file[f"{split}_labels"].reshape(-1)) for split in _SPLITS}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise FormatError(path, None, f"not medmnist's file of OrganAMNIST ({error})") from None
    for split, (pixels, labels) in parts.items():
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != len(labels):
            raise FormatError(
                path,
                None,
                f"{split}_images: expected uint8 [{len(labels)}, size, size], found {pixels.dtype} {pixels.shape}",
            )
        for number, (grey, label) in enumerate(zip(tqdm(pixels, desc=split, unit="image"), labels, strict=True)):
            image = images / split / f"{number:05d}.png"
            with atomic_path(image) as temporary:
                Image.fromarray(grey).save(temporary, format="PNG")
            yield Listed(image, {ORGAN: str(label)}, split)


ORGANAMNIST = PublishedSet(
    Download(
        "OrganAMNIST",
        "organamnist",
        "CT",
        "organamnist.npz, or a larger size, at https://doi.org/10.5281/zenodo.10519652",
        "CC BY 4.0",
    ),
    partial(_listed, images=Path("images")),
    labels=(ORGAN,),
    vocabulary=("organamnist",),
    level=ORGAN,
    own_classes=True,
)


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the images and the manifest."""
    options = parser_of(ORGANAMNIST, __doc__).parse_args(arguments)
    images = Path(options.out).absolute().parent / "images"
    return write_set(replace(ORGANAMNIST, listed=partial(_listed, images=images)), options)


if __name__ == "__main__":
    raise SystemExit(main())
