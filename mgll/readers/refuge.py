"""REFUGE: glaucoma or none, of its 400 training, 400 validation and 400 test images -> manifest.

Read are the challenge's own archives and REFUGE2's `Train`: `Training400/Glaucoma` and `Non-Glaucoma`; `REFUGE-Validation400`
with `Fovea_locations.xlsx` (`ImgName`, `Glaucoma Label`); `Test400` with `Glaucoma_label_and_Fovea_location.xlsx` (`ImgName`,
`Label(Glaucoma=1)`). REFUGE2's new images are another camera and not read. Non-glaucoma is no health: the training images hold
other diseases.

    python -m mgll.readers.refuge FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_TABLES: tuple[tuple[Split, str, str, str], ...] = (
    ("val", "REFUGE-Validation400", "Fovea_locations.xlsx", "Glaucoma Label"),
    ("test", "Test400", "Glaucoma_label_and_Fovea_location.xlsx", "Label(Glaucoma=1)"),
)


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for kind in ("Glaucoma", "Non-Glaucoma"):
        for image in images_in(find(folder, f"Training400/{kind}")):
            yield Listed(image, {"glaucoma": kind}, "train")
    for split, place_name, table, label in _TABLES:
        place = find(folder, place_name, place_name.replace("Test400", "REFUGE-Test400"))
        images = by_name(images_in(place))
        for _, row in read_table(find(folder, table), ("ImgName", label)):
            yield Listed(images.get(row["ImgName"].lower(), place / row["ImgName"]), {"glaucoma": row[label]}, split)


REFUGE = PublishedSet(
    Download(
        "REFUGE",
        "refuge",
        "fundus photographs",
        "the images of 2018 and their labels at https://refuge.grand-challenge.org (registration)",
        "as the challenge says on registration",
    ),
    _listed,
    labels=("glaucoma",),
    vocabulary=("refuge",),
)
main = command_of(REFUGE, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
