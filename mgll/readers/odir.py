"""ODIR-5K: the keywords of each eye -> manifest.

The folder holds `ODIR-5K_Training_Annotations(Updated)_V2.xlsx` (or `full_df.csv` of its copies) with `ID`, the patient, and
`Left-Fundus`, `Right-Fundus`, `Left-Diagnostic Keywords` and `Right-Diagnostic Keywords`; the images lie in a folder of their
own. The letters N, D, G, C, A, H, M and O are about a patient's two eyes and not read. No labels of the official test images
are published.

    python -m mgll.readers.odir FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.formats import FormatError
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_EYES = ("Left", "Right")
_COLUMNS = [f"{eye}-{what}" for eye in _EYES for what in ("Fundus", "Diagnostic Keywords")]


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    table = find(folder, "ODIR-5K_Training_Annotations*.xlsx", "ODIR-5K_Training_Annotations*.csv", "full_df.csv")
    images: dict[str, Path] = {}
    seen: set[tuple[str, str]] = set()
    for _, row in read_table(table, ("ID", *_COLUMNS)):
        for eye in _EYES:
            name = row[f"{eye}-Fundus"]
            if not name or (row["ID"], name) in seen:  # `full_df.csv` has a row for each eye, with the columns of both
                continue
            seen.add((row["ID"], name))
            images = images or _beside(folder, name, notes)
            keywords = row[f"{eye}-Diagnostic Keywords"].replace("，", ",")  # a comma of full width, as a rule
            yield Listed(images.get(name.lower(), table.parent / name), {"keywords": keywords}, None, row["ID"])


def _beside(folder: Path, name: str, notes: Counter[str]) -> dict[str, Path]:
    """The images of the folder that holds this one, the unchanged ones where a copy has them resized too."""
    places = [place for place in (folder, *sorted(folder.rglob("*"))) if (place / name).is_file()]
    if not places:
        raise FormatError(folder, None, f"no folder in it holds the image {name}")
    first, *others = sorted(places, key=lambda place: "preprocessed" in place.name)
    if others:
        notes[f"{name} and others are in {first}, which is read, and in {', '.join(map(str, others))} too"] += 1
    return by_name(images_in(first))


ODIR = PublishedSet(
    Download(
        "ODIR-5K",
        "odir",
        "fundus photographs",
        "training images and annotations at https://odir2019.grand-challenge.org (registration)",
        "as the challenge says on registration",
    ),
    _listed,
    labels=("keywords",),
    vocabulary=("odir",),
    separator=",",
    also_named="keywords",
)
main = command_of(ODIR, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
