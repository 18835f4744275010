"""MIDRC-XR and MIDRC-XR-Portable, the paper's views of radiographs, as its authors list them -> manifest.

The folder holds `All_csv_downstream/MIDRC_XR_Train.csv`, `_Val.csv` and `_Test.csv` (`--portable`:
`MIDRC_XR_Portable_Train.csv` and so on) with `ImageID`, the path of an npz file, below the folder
or anywhere, with the array `image`, and
`loinc_long_common_name_0`. The views (14, and 6 portable ones; Table 13) are classes of their own, called as they are, and
texts of the level `study`. No patients are named.

    python -m mgll.readers.midrc_downstream FOLDER --portable --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.manifest.records import Split
from mgll.readers.published_command import parser_of, write_set
from mgll.readers.published_files import find
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table
from mgll.vocabulary.label_texts import STUDY

_VIEW = "loinc_long_common_name_0"
_SPLITS: tuple[tuple[Split, str], ...] = (("train", "Train"), ("val", "Val"), ("test", "Test"))


def _listed(folder: Path, notes: Counter[str], portable: bool = False) -> Iterator[Listed]:
    for split, name in _SPLITS:
        list_name = f"MIDRC_XR{'_Portable' if portable else ''}_{name}.csv"
        table = find(folder, f"All_csv_downstream/{list_name}", list_name)
        for _, row in read_table(table, ("ImageID", _VIEW)):
            below = folder / row["ImageID"].lstrip("/")
            yield Listed(below if below.is_file() else Path(row["ImageID"]), {_VIEW: row[_VIEW]}, split)


MIDRC_XR = PublishedSet(
    Download(
        "MIDRC-XR",
        "midrc_downstream",
        "radiographs",
        "the lists of MGLL's authors with their images; the radiographs themselves are at https://data.midrc.org (registration)",
        "MIDRC data use agreement",
    ),
    _listed,
    labels=(_VIEW,),
    level=STUDY,
    own_classes=True,
)
MIDRC_XR_PORTABLE = replace(
    MIDRC_XR,
    download=replace(MIDRC_XR.download, name="MIDRC-XR-Portable", reader="midrc_downstream --portable"),
    listed=partial(_listed, portable=True),
)


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the manifest of either."""
    parser = parser_of(MIDRC_XR, __doc__)
    parser.add_argument("--portable", action="store_true", help="MIDRC-XR-Portable")
    options = parser.parse_args(arguments)
    return write_set(MIDRC_XR_PORTABLE if options.portable else MIDRC_XR, options)


if __name__ == "__main__":
    raise SystemExit(main())
