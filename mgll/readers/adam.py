"""ADAM (iChallenge-AMD): age-related macular degeneration or none -> manifest.

The folder holds `Train/Training-image-400/AMD` and `Non-AMD` (the challenge's own archive calls it `Training400`),
`Validation/image` with `validation_classification_GT.txt`, and `Test/Test-image-400` with `test_classification_GT.txt`: lines
of a file name and 1 or 0. Validation and test may be missing, as they were for years.

    python -m mgll.readers.adam FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, find_if_any, images_in, words_of_lines
from mgll.readers.published_set import Download, Listed, PublishedSet

_LISTS: tuple[tuple[Split, str, str], ...] = (
    ("val", "validation_classification_GT.txt", "image"),
    ("test", "test_classification_GT.txt", "Test-image-400"),
)


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    place = find(folder, "Training-image-400", "Training400")
    for kind in ("AMD", "Non-AMD"):
        for image in images_in(find(place, kind)):
            yield Listed(image, {"amd": kind}, "train")
    for split, name, below in _LISTS:
        table = find_if_any(folder, name)
        if table is None:
            notes[f"no {name}: no official {split} split"] += 0
            continue
        images = by_name(images_in(find(table.parent, below)))
        for image_name, label, *_ in words_of_lines(table, 2):
            yield Listed(images.get(image_name.lower(), table.parent / below / image_name), {"amd": label}, split)


ADAM = PublishedSet(
    Download(
        "ADAM",
        "adam",
        "fundus photographs",
        "training, validation and test images with their labels at https://amd.grand-challenge.org (registration)",
        "as the challenge says on registration",
    ),
    _listed,
    labels=("amd",),
    vocabulary=("adam",),
    validation=0.2,
)
main = command_of(ADAM, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
