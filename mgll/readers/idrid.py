"""IDRiD, part B: grades of diabetic retinopathy and risk of macular edema -> manifest.

The folder holds `1. Original Images/a. Training Set/IDRiD_001.jpg`, `b. Testing Set`, and in `2. Groundtruths` the tables `a.
IDRiD_Disease Grading_Training Labels.csv` and `b. ... Testing Labels.csv` with `Image name`, `Retinopathy grade` (0 to 4) and
`Risk of macular edema` (0 to 2; 1 is hard exudates away from the macula, 2 near it). Both tests of the paper (Tables 16 and 17)
come out of one manifest; `--labels "Retinopathy grade"` reads one alone. The paper takes 94 of the training images for
validation.

    python -m mgll.readers.idrid FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_GRADES = ("Retinopathy grade", "Risk of macular edema")
_SPLITS: tuple[tuple[Split, str, str], ...] = (("train", "a", "Training"), ("test", "b", "Testing"))


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for split, letter, name in _SPLITS:
        place = find(
            folder,
            f"B. Disease Grading/1. Original Images/{letter}. {name} Set",
            f"1. Original Images/{letter}. {name} Set",
        )
        table = find(place.parents[1], f"{letter}. IDRiD_Disease Grading_{name} Labels.csv")
        images = by_name(images_in(place))
        for _, row in read_table(table, ("Image name", *_GRADES)):
            if name := row["Image name"]:
                image = images.get(f"{name}.jpg".lower(), place / f"{name}.jpg")
                yield Listed(image, {grade: row[grade] for grade in _GRADES}, split)


IDRID = PublishedSet(
    Download(
        "IDRiD",
        "idrid",
        "fundus photographs",
        "B. Disease Grading at https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid",
        "CC BY 4.0",
    ),
    _listed,
    labels=_GRADES,
    vocabulary=("icdr", "idrid"),
    validation=94 / 413,
)
main = command_of(IDRID, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
