"""Labels as data sets write them: how they are compared, which class they name, and which name several."""

import csv
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: British and American spellings of the words that labels are made of.
_SPELLINGS = (("oedema", "edema"), ("haem", "hem"), ("disc", "disk"), ("tesselated", "tessellated"))


@dataclass(frozen=True)
class Ambiguous:
    """A label that means different things in different data sets: the class codes that it may mean, and why."""

    may_mean: tuple[str, ...]
    because: str


def label_key(label: str) -> str:
    """What all spellings of a label share: lower case, single spaces for `_` and `-`, American spelling."""
    key = re.sub(r"[\s_\-–]+", " ", label.lower()).strip()
    for other, own in _SPELLINGS:
        key = key.replace(other, own)
    return key


def short_key(label: str) -> str:
    """What all spellings of an abbreviation share: its `label_key` without dots, and without spaces behind them (`o. B.`, `oB`)."""
    return re.sub(r"\.\s*", "", label_key(label))


@cache
def class_names(table: ClassTable = FUNDUS) -> MappingProxyType[str, str]:
    """Key of every name, code and synonym of a class -> its code; of fundus classes also what clinics write (`synonyms.csv`)."""
    names = {label_key(name): own.code for own in table.classes.values() for name in own.synonyms}
    return MappingProxyType({**(_clinical_names() if table is FUNDUS else {}), **names})


@cache
def _clinical_names() -> dict[str, str]:
    with (files("mgll.vocabulary") / "synonyms.csv").open(encoding="utf-8") as file:
        return {
            spelled(label): row["class"]
            for row in csv.DictReader(file)
            for label in row["labels"].split(";")
            for spelled in (label_key, short_key)
        }


def class_named(label: str, table: ClassTable = FUNDUS) -> str | None:
    """Code of the class that a label names in any spelling; None where it names none."""
    names = class_names(table)
    return names.get(label_key(label)) or names.get(short_key(label))


@cache
def ambiguous_labels(table: ClassTable = FUNDUS) -> MappingProxyType[str, Ambiguous]:
    """Key of every label that only a vocabulary of the data set can decide (`ambiguous_labels.csv`; of fundus classes alone)."""
    if table is not FUNDUS:
        return MappingProxyType({})
    with (files("mgll.vocabulary") / "ambiguous_labels.csv").open(encoding="utf-8") as file:
        return MappingProxyType(
            {
                label_key(row["label"]): Ambiguous(tuple(row["may_mean"].split(";")), row["because"])
                for row in csv.DictReader(file)
            }
        )


def similar_classes(label: str, table: ClassTable = FUNDUS, most: int = 3) -> tuple[str, ...]:
    """Codes of the classes whose names are most like a label, the nearest first; perhaps none."""
    names, words = class_names(table), set(label_key(label).split())
    shared = sorted(names, key=lambda name: -len(words & set(name.split())))
    near = [
        *get_close_matches(label_key(label), names, n=most, cutoff=0.8),
        *(name for name in shared if len(words & set(name.split())) > 1 or words >= set(name.split())),
    ]
    return tuple(dict.fromkeys(names[name] for name in near))[:most]


def nearest_class(label: str, table: ClassTable = FUNDUS) -> str | None:
    """Code of the class with the name that is spelled most like a label; None where all are spelled otherwise."""
    names = class_names(table)
    return next((names[name] for name in get_close_matches(label_key(label), names, n=1, cutoff=0.55)), None)
