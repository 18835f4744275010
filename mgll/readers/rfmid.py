"""RFMiD: the paper's twelve labels, or all 45 -> manifest.

The folder holds `Training_Set/RFMiD_Training_Labels.csv` with `Training/1.png`, and likewise `Evaluation_Set`
(`RFMiD_Validation_Labels.csv`, `Validation`) and `Test_Set` (`RFMiD_Testing_Labels.csv`, `Test`); or `1. Original Images/a.
Training Set` with `2. Groundtruths/ a. RFMiD_Training_Labels.csv`. Columns are `ID`, `Disease_Risk` and one for each disease.
The paper reads the twelve diseases that more than 2 % of the images have (Table 13); an image with other diseases alone is of
class Other, lest it count as unlabelled or healthy.

    python -m mgll.readers.rfmid FOLDER --out manifest.jsonl
    python -m mgll.readers.rfmid FOLDER --labels Disease_Risk,DR,ARMD,CRVO --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.cells import is_positive
from mgll.readers.published_command import command_of
from mgll.readers.published_files import by_name, find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet
from mgll.readers.tables import read_table

_SPLITS: tuple[tuple[Split, str, str, str], ...] = (
    ("train", "a", "Training", "Training"),
    ("val", "b", "Validation", "Validation"),
    ("test", "c", "Testing", "Test"),
)
#: The paper's diseases (Table 13).
TWELVE = ("DR", "ARMD", "MH", "DN", "MYA", "BRVO", "TSLN", "LS", "ODC", "ODP", "ODE", "RS")
#: The other columns of diseases, each in one image of fifty or fewer.
_RARER = (
    *("ERM", "MS", "CSR", "CRVO", "TV", "AH", "ST", "AION", "PT", "RT", "CRS", "EDN", "RPEC", "MHL", "RP", "CWS", "CB"),
    *("ODPM", "PRH", "MNF", "HR", "CRAO", "TD", "CME", "PTCR", "CF", "VH", "MCA", "VS", "BRAO", "PLQ", "HPED", "CL"),
)
_OTHER = "other diseases"


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for split, letter, name, place_name in _SPLITS:
        table = find(folder, f"RFMiD_{name}_Labels.csv", f"{letter}. RFMiD_{name}_Labels.csv")
        own = table.parent / place_name
        place = own if own.is_dir() else find(table.parents[1], f"1. Original Images/{letter}. {name} Set")
        images = by_name(images_in(place))
        for _, row in read_table(table, ("ID", "Disease_Risk", *TWELVE)):
            diseases = {column: cell for column, cell in row.items() if column not in ("ID", "Disease_Risk", "")}
            others = any(is_positive(cell) for column, cell in diseases.items() if cell and column not in TWELVE)
            none_of_them = not any(is_positive(row[column]) for column in TWELVE if row[column])
            cells = {**diseases, "Disease_Risk": row["Disease_Risk"], _OTHER: "1" if others and none_of_them else ""}
            yield Listed(images.get(f"{row['ID']}.png", place / f"{row['ID']}.png"), cells, split)


RFMID = PublishedSet(
    Download(
        "RFMiD",
        "rfmid",
        "fundus photographs",
        "all three sets at https://doi.org/10.21227/s3g7-st65",
        "CC BY 4.0",
    ),
    _listed,
    labels=("Disease_Risk", _OTHER),
    one_hot=(*TWELVE, *_RARER),
    usual=("Disease_Risk", _OTHER, *TWELVE),
    vocabulary=("rfmid",),
)
main = command_of(RFMID, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
