"""CheXpert: fourteen labels of 1, 0, -1 (uncertain) or nothing -> manifest.

The folder holds `train.csv` and `valid.csv` with `Path`, such as `CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`,
whose first part is the folder itself, and a column for each label. The 500 official test studies came with CheXlocalize:
`test_labels.csv` and `test/patient64741/...`, beside the others or in a folder of their own below FOLDER; without them there is
no test split.

    python -m mgll.readers.chexpert FOLDER --out manifest.jsonl
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.formats import FormatError
from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, find_if_any
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
#: From the split's folder on.
_PLACE = re.compile(r"(?:train|valid|val|test)/(patient\d+)/.+")


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    yield from _of_table(find(folder, "train.csv"), "train")
    yield from _of_table(find(folder, "valid.csv"), "val")
    if test := find_if_any(folder, "test_labels.csv"):
        yield from _of_table(test, "test")
    else:
        notes["no test_labels.csv: no official test split"] += 0


def _of_table(table: Path, split: Split) -> Iterator[Listed]:
    for number, row in read_table(table, ("Path", *LABELS)):
        place = _PLACE.search(row["Path"])
        if place is None:
            raise FormatError(table, number, f"field Path: expected .../train/patient00001/..., found {row['Path']!r}")
        yield Listed(table.parent / place[0], {label: row[label] for label in LABELS}, split, place[1])


CHEXPERT = PublishedSet(
    Download(
        "CheXpert",
        "chexpert",
        "radiographs",
        "CheXpert-v1.0 (or -small) at https://aimi.stanford.edu/datasets/chexpert-chest-x-rays, the test studies with CheXlocalize"
        " (registration)",
        "Stanford University Dataset Research Use Agreement",
    ),
    _listed,
    one_hot=LABELS,
    vocabulary=("chexpert",),
    classes="chest_xray",
)
main = command_of(CHEXPERT, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
