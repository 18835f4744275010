"""OIA-DDR: grades of diabetic retinopathy -> manifest.

The folder holds `DR_grading/train.txt`, `valid.txt` and `test.txt`, lines of a file name and a grade from 0 to 4, and the
images in `DR_grading/train` and so on. Images of grade 5, which can't be graded, are left out; the paper's 6260 : 2503 : 3759
remain.

    python -m mgll.readers.ddr FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, words_of_lines
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.splits import NAMES

_UNGRADABLE = "5"


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for name in ("train", "valid", "test"):
        table = find(folder, f"DR_grading/{name}.txt", f"{name}.txt")
        for *image, grade in words_of_lines(table, 2):
            if grade == _UNGRADABLE:
                notes["left out: grade 5, which can't be graded"] += 1
                continue
            yield Listed(table.parent / name / " ".join(image), {"dr_grade": grade}, NAMES[name])


DDR = PublishedSet(
    Download(
        "OIA-DDR",
        "ddr",
        "fundus photographs",
        "all parts of DDR-dataset.zip at https://github.com/nkicsl/DDR-dataset",
        "see LICENSE of that repository",
    ),
    _listed,
    labels=("dr_grade",),
    vocabulary=("icdr",),
)
main = command_of(DDR, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
