"""APTOS 2019: grades of diabetic retinopathy -> manifest.

The folder holds `train.csv` with `id_code` and `diagnosis` (0 to 4), and `train_images/ID.png`. The labels of its test images
are not published and patients are not named, so images are split one by one.

    python -m mgll.readers.aptos FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.readers.published_command import command_of
from mgll.readers.published_files import find
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    table = find(folder, "train.csv")
    place = find(table.parent, "train_images")
    for _, row in read_table(table, ("id_code", "diagnosis")):
        yield Listed(place / f"{row['id_code']}.png", {"diagnosis": row["diagnosis"]})


APTOS = PublishedSet(
    Download(
        "APTOS 2019",
        "aptos",
        "fundus photographs",
        "train.csv and train_images at https://www.kaggle.com/c/aptos2019-blindness-detection/data (registration)",
        "rules of the competition",
    ),
    _listed,
    labels=("diagnosis",),
    vocabulary=("icdr",),
)
main = command_of(APTOS, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
