"""The fundus table: codes, names, clinical explanations (Table 10), benchmark counts (Table 14), and which names go together.

`diseases.csv` serves the readers of real labels, the generator and the benchmark. It has every row of Table 10, two of them
corrected: the paper gives branch vein occlusion the explanation of central vein occlusion, and misspells asteroid bodies. Its
column `implies` says what always holds with a disease (a grade is the disease, glaucoma has a cupped disk), `excludes` what never.

`disease_overlaps.csv` says what may also hold although an image is not labelled with it: another name of the same look, a sign, a
neighbouring grade, a consequence that data sets seldom label. It does not list what merely occurs in the same patients (cataract
beside glaucoma): for such diseases an image's labels count as complete.

The functions are those of this table; `mgll.vocabulary.classes.ClassTable` has them for the classes of any field.
"""

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from mgll.vocabulary.classes import ClassTable, Disease

#: The ten classes of the paper's Table 2; its headline figures are their unweighted mean.
TEN_CLASSES = ("AMD", "Cataract", "CSR", "DR", "Glaucoma", "MH", "Myopia", "Retinitis", "DME", "Tessellation")


#: Names that the paper does not have, needed to read data sets that grade one disease alone; no distractor of its questions.
OWN_NAMES = frozenset({"No DR"})


#: Negative class -> its disease. It holds for every image without the disease whose labels say more than what is absent.
NEGATIVE_OF = MappingProxyType({"No AMD": "AMD", "No DME": "DME", "No Glaucoma": "Glaucoma", "No DR": "DR"})


def _read_diseases() -> Mapping[str, Disease]:
    table = {}
    with (files("mgll.vocabulary") / "diseases.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            synonyms = dict.fromkeys([row["name"].lower(), row["code"].lower(), *_split(row["synonyms"])])
            table[row["code"]] = Disease(
                row["code"],
                row["name"],
                row["explanation"],
                int(row["cases"] or 0),
                tuple(_split(row["implies"])),
                tuple(synonyms),
                tuple(_split(row["excludes"])),
            )
    return MappingProxyType(table)


def _read_overlaps(codes: Iterable[str]) -> Mapping[str, frozenset[str]]:
    table: dict[str, set[str]] = {code: set() for code in codes}
    with (files("mgll.vocabulary") / "disease_overlaps.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for finding in _split(row["findings"]):
                for other in _split(row["may_also_be"]):
                    table[finding].add(other)
                    table[other].add(finding)
    return MappingProxyType({code: frozenset(others) for code, others in table.items()})


def _split(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


_DISEASES = _read_diseases()
#: The classes of fundus photographs: the paper's, and what is meant wherever no other table is named.
FUNDUS = ClassTable(
    "fundus", _DISEASES, _read_overlaps(_DISEASES), NEGATIVE_OF, normal="Health", other="Other", grades=True
)


def diseases() -> Mapping[str, Disease]:
    """The disease table: code -> disease, in the order of the file."""
    return FUNDUS.classes


@cache
def benchmark_classes() -> tuple[Disease, ...]:
    """The 25 classes of the paper's Table 14, in its order; their `cases` sum to 2,233."""
    return tuple(disease for disease in diseases().values() if disease.cases)


@cache
def paper_names() -> tuple[str, ...]:
    """Codes of every disease that the paper names, grades among them."""
    return tuple(code for code in diseases() if code not in OWN_NAMES)


def synonyms() -> Mapping[str, str]:
    """Lower-case name of a disease -> its code."""
    return FUNDUS.synonyms


def overlaps() -> Mapping[str, frozenset[str]]:
    """Code -> the codes that may also hold for an image labelled with it; the relation is symmetric."""
    return FUNDUS.overlaps


def implied_codes(labels: Iterable[str]) -> frozenset[str]:
    """The labels and everything that they imply, see `ClassTable.implied`."""
    return FUNDUS.implied(labels)


def true_codes(labels: Iterable[str]) -> frozenset[str]:
    """Every code that holds for an image with these labels, see `ClassTable.true`."""
    return FUNDUS.true(labels)


def possible_codes(labels: Iterable[str]) -> frozenset[str]:
    """Every code that holds or may hold for an image with these labels, see `ClassTable.possible`."""
    return FUNDUS.possible(labels)
