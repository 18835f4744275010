"""COVIDx: normal, pneumonia or COVID-19; in newer releases positive or negative -> manifest.

The folder holds `train`, `test` and in newer releases `val` with the images, and the lists `train.txt`, `val.txt` and
`test.txt` (of release 9 `train_COVIDx9A.txt`, `test_COVIDx9A.txt` and 9B), whose lines are patient, file name, class and
source. The paper reads the three classes without training (Table 24).

    python -m mgll.readers.covidx FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, find_if_any, words_of_lines
from mgll.readers.published_set import Download, Listed, PublishedSet

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for split in _SPLITS:
        patterns = (f"{split}_COVIDx*A.txt", f"{split}_COVIDx*.txt", f"{split}.txt")
        table = find_if_any(folder, *patterns) if split == "val" else find(folder, *patterns)
        for *patient, name, label, source in words_of_lines(table, 4) if table else ():
            image = table.parent / split / name if table else Path(name)
            yield Listed(image, {"covidx": label}, split, f"{source} {' '.join(patient)}")


COVIDX = PublishedSet(
    Download(
        "COVIDx",
        "covidx",
        "radiographs",
        "images at https://www.kaggle.com/datasets/andyczhao/covidx-cxr2, lists of three classes at"
        " https://github.com/lindawangg/COVID-Net/tree/master/labels",
        "that of each of its sources",
    ),
    _listed,
    labels=("covidx",),
    vocabulary=("covidx",),
    own_classes=True,
    validation=0.1,
)
main = command_of(COVIDX, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
