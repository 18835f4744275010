"""The disease table: codes, names, clinical explanations (Table 10), benchmark counts (Table 14), and which names go together.

`diseases.csv` serves the readers of real labels, the generator and the benchmark. It has every row of Table 10, two of them
corrected: the paper gives branch vein occlusion the explanation of central vein occlusion, and misspells asteroid bodies. Its
column `implies` says what always holds with a disease (a grade is the disease, glaucoma has a cupped disk).

`disease_overlaps.csv` says what may also hold although an image is not labelled with it: another name of the same look, a sign, a
neighbouring grade, a consequence that data sets seldom label. It does not list what merely occurs in the same patients (cataract
beside glaucoma): for such diseases an image's labels count as complete.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

#: The ten classes of the paper's Table 2; its headline figures are their unweighted mean.
TEN_CLASSES = ("AMD", "Cataract", "CSR", "DR", "Glaucoma", "MH", "Myopia", "Retinitis", "DME", "Tessellation")


#: Names that the paper does not have, needed to read data sets that grade one disease alone; no distractor of its questions.
OWN_NAMES = frozenset({"No DR"})


@dataclass(frozen=True)
class Disease:
    """One row of the disease table.

    Attributes:
        code: short name, unique (`DR`, `No AMD`, `Mild NPDR`).
        name: name as the options of questions and the disease texts show it.
        explanation: clinical explanation, the second granularity (Table 10 where the paper has the disease).
        cases: number of cases in the paper's benchmark (Table 14); 0 where the disease is not one of its 25 classes.
        implies: codes that hold whenever this one does.
        synonyms: lower-case names under which data sets list the disease, its `name` and `code` among them.
    """

    code: str
    name: str
    explanation: str
    cases: int
    implies: tuple[str, ...]
    synonyms: tuple[str, ...]


#: Negative class -> its disease. It holds for every image without the disease whose labels say more than what is absent.
NEGATIVE_OF = MappingProxyType({"No AMD": "AMD", "No DME": "DME", "No Glaucoma": "Glaucoma", "No DR": "DR"})


@cache
def diseases() -> MappingProxyType[str, Disease]:
    """The disease table: code -> disease, in the order of the file."""
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
            )
    return MappingProxyType(table)


@cache
def benchmark_classes() -> tuple[Disease, ...]:
    """The 25 classes of the paper's Table 14, in its order; their `cases` sum to 2,233."""
    return tuple(disease for disease in diseases().values() if disease.cases)


@cache
def paper_names() -> tuple[str, ...]:
    """Codes of every disease that the paper names, grades among them."""
    return tuple(code for code in diseases() if code not in OWN_NAMES)


@cache
def synonyms() -> MappingProxyType[str, str]:
    """Lower-case name of a disease -> its code."""
    return MappingProxyType({name: disease.code for disease in diseases().values() for name in disease.synonyms})


@cache
def overlaps() -> MappingProxyType[str, frozenset[str]]:
    """Code -> the codes that may also hold for an image labelled with it; the relation is symmetric."""
    table: dict[str, set[str]] = {code: set() for code in diseases()}
    with (files("mgll.vocabulary") / "disease_overlaps.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for finding in _split(row["findings"]):
                for other in _split(row["may_also_be"]):
                    table[finding].add(other)
                    table[other].add(finding)
    return MappingProxyType({code: frozenset(others) for code, others in table.items()})


def implied_codes(labels: Iterable[str]) -> frozenset[str]:
    """The labels and everything that they imply.

    Raises:
        KeyError: for a label that is not in the table.
    """
    table = diseases()
    held: set[str] = set()
    waiting = list(labels)
    while waiting:
        code = waiting.pop()
        if code not in held:
            held.add(code)
            waiting.extend(table[code].implies)
    return frozenset(held)


def true_codes(labels: Iterable[str]) -> frozenset[str]:
    """Every code that holds for an image with these labels: themselves, what they imply, and the negatives of what is absent.

    Labels that only say what is absent (`No DR`) come from a data set that asked for nothing else: no other disease is known to be
    absent then.

    Raises:
        KeyError: for a label that is not in the table.
    """
    held = implied_codes(labels)
    if held and held <= NEGATIVE_OF.keys():
        return held
    return held | {negative for negative, disease in NEGATIVE_OF.items() if disease not in held}


def possible_codes(labels: Iterable[str]) -> frozenset[str]:
    """Every code that holds or may hold for an image with these labels; none of them can be a distractor.

    Beyond `true_codes`: what overlaps with a label, and what is narrower (DR may be PDR, No AMD may be Health) unless the labels
    are as narrow themselves. A disease outside the paper's 25 is an "other disease" to them, and the other way round.
    An image whose labels say `No DR` and perhaps the absence of more may have every disease that they do not exclude; the images of
    the paper's own three negative classes count as showing nothing else.
    What the labels contradict is not possible: Health beside a disease, a disease beside its negative.

    Raises:
        KeyError: for a label that is not in the table.
    """
    labels = tuple(labels)
    stated = implied_codes(labels)
    narrowest = [label for label in labels if not any(label in _broader(other) for other in labels)]
    near = {code for label in narrowest for code in overlaps()[label] | _narrower(label)}
    off_list = frozenset(code for code, disease in diseases().items() if not disease.cases and not disease.implies) - {
        *NEGATIVE_OF
    }
    if "Other" in stated:
        near |= off_list
    if "No DR" in stated and stated <= NEGATIVE_OF.keys():
        near |= diseases().keys()
    possible = set(implied_codes(stated | near))
    if stated & off_list:
        possible.add("Other")
    if stated - {"Health", *NEGATIVE_OF}:
        possible.discard("Health")
    for negative in stated & NEGATIVE_OF.keys():
        possible -= {NEGATIVE_OF[negative], *_narrower(NEGATIVE_OF[negative])} - stated
    return frozenset(possible) | true_codes(labels)


@cache
def _broader(code: str) -> frozenset[str]:
    return implied_codes([code]) - {code}


@cache
def _narrower(code: str) -> frozenset[str]:
    return frozenset(other for other in diseases() if code in _broader(other))


def _split(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]
