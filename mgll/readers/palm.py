"""PALM (iChallenge-PM): pathological myopia or none -> manifest.

The folder holds `Training`, `Validation` and `Testing`, each with `Images` and `Classification Labels.xlsx` (`imgName`, `Label`
of 1 or 0). The challenge's older archives are read too: `PALM-Training400` with P, H and N (pathological, high and no myopia)
as the first letter of its images, and `PALM-Validation400` with `PM_Label_and_Fovea_Location.xlsx`. As in the paper, eyes
without pathological myopia count as healthy, high myopia among them; `--vocabulary FILE.csv` says it otherwise.

    python -m mgll.readers.palm FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, find_if_any, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_LABEL = "pathological myopia"
_SPLITS: tuple[tuple[Split, str], ...] = (("train", "Training"), ("val", "Validation"), ("test", "Testing"))


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    if find_if_any(folder, "Training/Classification Labels.xlsx"):
        for split, name in _SPLITS:
            table = find(folder, f"{name}/Classification Labels.xlsx")
            yield from _of_table(table, find(table.parent, "Images", "images"), split)
        return
    for image in images_in(find(folder, "PALM-Training400/PALM-Training400", "PALM-Training400")):
        yield Listed(image, {_LABEL: image.name[0]}, "train")
    yield from _of_table(
        find(folder, "PM_Label_and_Fovea_Location.xlsx"), find(folder, "PALM-Validation400", "Validation-400"), "val"
    )


def _of_table(table: Path, place: Path, split: Split) -> Iterator[Listed]:
    images = by_name(images_in(place))
    for _, row in read_table(table, ("imgName", "Label")):
        yield Listed(images.get(row["imgName"].lower(), place / row["imgName"]), {_LABEL: row["Label"]}, split)


PALM = PublishedSet(
    Download(
        "PALM",
        "palm",
        "fundus photographs",
        "the archive of https://doi.org/10.1038/s41597-024-02911-2, or the challenge's at"
        " https://ieee-dataport.org/documents/palm-pathologic-myopia-challenge",
        "as its page says",
    ),
    _listed,
    labels=(_LABEL,),
    vocabulary=("palm",),
)
main = command_of(PALM, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
