"""ChestX-ray14 of the NIH with its official test list -> manifest.

The folder holds `Data_Entry_2017_v2020.csv` (or `Data_Entry_2017.csv`) with `Image Index`, `Finding Labels` between `|` and
`Patient ID`, the lists `train_val_list.txt` and `test_list.txt`, and the images in `images` or in `images_001/images` to
`images_012/images`. The paper (Table 13) takes a tenth of the other patients for validation.

    python -m mgll.readers.chestxray14 FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, images_in, words_of_lines
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_LABELS = "Finding Labels"
_LISTS: tuple[tuple[Split, str], ...] = (("train", "train_val_list.txt"), ("test", "test_list.txt"))


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    table = find(folder, "Data_Entry_2017_v2020.csv", "Data_Entry_2017*.csv")
    splits = {words[0]: split for split, name in _LISTS for words in words_of_lines(find(folder, name), 1)}
    places = sorted({*table.parent.glob("images*/images"), *table.parent.glob("images")})
    images = {image.name: image for place in places for image in images_in(place)}
    for _, row in read_table(table, ("Image Index", _LABELS, "Patient ID")):
        name = row["Image Index"]
        if name not in splits:
            notes["left out: on neither official list"] += 1
            continue
        yield Listed(
            images.get(name, table.parent / "images" / name), {_LABELS: row[_LABELS]}, splits[name], row["Patient ID"]
        )


CHESTXRAY14 = PublishedSet(
    Download(
        "ChestX-ray14",
        "chestxray14",
        "radiographs",
        "images, Data_Entry_2017_v2020.csv and both lists at https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "free for all use, with a link to the page and a citation",
    ),
    _listed,
    labels=(_LABELS,),
    vocabulary=("chestxray14",),
    classes="chest_xray",
    separator="|",
    validation=0.1,
)
main = command_of(CHESTXRAY14, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
