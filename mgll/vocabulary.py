"""The disease table: codes, names, clinical explanations (Table 10), benchmark counts (Table 14) and what implies what.

One file, `diseases.csv`, serves the reader of real labels, the synthetic generator and the benchmark.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@dataclass(frozen=True)
class Disease:
    """One row of the table.

    Attributes:
        code: short name, unique (`DR`, `No AMD`, `Mild NPDR`).
        name: name as an option or a disease text shows it.
        explanation: clinical explanation, the second granularity (Table 10 where the paper has the disease).
        cases: number of cases in the paper's benchmark (Table 14); 0 where the disease is not one of its 25 classes.
        implies: codes that hold whenever this one does.
        synonyms: lower-case names under which data sets list it, its own name among them.
    """

    code: str
    name: str
    explanation: str
    cases: int
    implies: tuple[str, ...]
    synonyms: tuple[str, ...]


#: A negative class holds for every image without its disease.
NEGATIVE_OF = MappingProxyType({"No AMD": "AMD", "No DME": "DME", "No Glaucoma": "Glaucoma"})


@cache
def diseases() -> MappingProxyType[str, Disease]:
    """Code -> disease, in the order of the table."""
    table = {}
    with (files("mgll") / "diseases.csv").open(encoding="utf-8") as file:
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
    """The 25 classes of Table 14, in its order; their `cases` sum to 2,233."""
    return tuple(disease for disease in diseases().values() if disease.cases)


@cache
def synonyms() -> MappingProxyType[str, str]:
    """Lower-case name -> code."""
    return MappingProxyType({name: disease.code for disease in diseases().values() for name in disease.synonyms})


def true_codes(labels: Iterable[str]) -> frozenset[str]:
    """Every code that holds for an image with these labels: themselves, what they imply, and the negatives of what is absent.

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
    held.update(negative for negative, disease in NEGATIVE_OF.items() if disease not in held)
    return frozenset(held)


def _split(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]
