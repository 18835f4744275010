"""Messidor-2 with the adjudicated grades of Krause et al. (2018): diabetic retinopathy and macular edema -> manifest.

The folder holds `IMAGES`, `messidor-2.csv` (a line for each examination, with its images between semicolons) and, from another
page, `messidor_data.csv` with `image_id`, `adjudicated_dr_grade`, `adjudicated_dme` and `adjudicated_gradable` (in copies
`id_code` and `diagnosis`). Images that were not gradable are left out. Examinations are the groups, where their table is there.

    python -m mgll.readers.messidor2 FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.formats import FormatError
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, find_if_any, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_GRADABLE, _GRADE, _EDEMA = "adjudicated_gradable", "adjudicated_dr_grade", "adjudicated_dme"


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    place = find(folder, "IMAGES", "images", "preprocess")
    images, examinations = by_name(images_in(place)), _examinations(find_if_any(folder, "messidor-2*.csv"))
    table = find(folder, "messidor_data.csv")
    for number, row in read_table(table, (_GRADABLE, _EDEMA)):
        name, grade = row.get("image_id", row.get("id_code")), row.get(_GRADE, row.get("diagnosis"))
        if name is None or grade is None:
            raise FormatError(
                table, number, "expected the columns image_id and adjudicated_dr_grade, or id_code and diagnosis"
            )
        if row[_GRADABLE].partition(".")[0] != "1":
            notes["left out: not gradable"] += 1
            continue
        cells = {_GRADE: grade, _EDEMA: row[_EDEMA]}
        key = name.lower()
        yield Listed(images.get(key, place / name), cells, None, examinations.get(key, ""))


def _examinations(table: Path | None) -> dict[str, str]:
    """Image, in lower case -> its examination."""
    lines = table.read_text(encoding="utf-8-sig").splitlines() if table else []
    return {
        name.strip().strip('"').lower(): f"examination {number}"
        for number, line in enumerate(lines)
        for name in line.split(";")
    }


MESSIDOR2 = PublishedSet(
    Download(
        "Messidor-2",
        "messidor2",
        "fundus photographs",
        "images at https://www.adcis.net/en/third-party/messidor2 (on request), messidor_data.csv at"
        " https://www.kaggle.com/datasets/google-brain/messidor2-dr-grades",
        "research and education alone, as agreed with ADCIS",
    ),
    _listed,
    labels=(_GRADE, _EDEMA),
    vocabulary=("icdr", "messidor2"),
)
main = command_of(MESSIDOR2, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
