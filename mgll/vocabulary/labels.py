"""Labels as data sets write them: how they are compared, which class they name, and which name several."""

import csv
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from mgll.vocabulary.diseases import diseases

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


@cache
def class_names() -> MappingProxyType[str, str]:
    """Key of every name, code and synonym of a disease -> its code."""
    return MappingProxyType({label_key(name): own.code for own in diseases().values() for name in own.synonyms})


@cache
def ambiguous_labels() -> MappingProxyType[str, Ambiguous]:
    """Key of every label that only a vocabulary of the data set can decide (`ambiguous_labels.csv`)."""
    with (files("mgll.vocabulary") / "ambiguous_labels.csv").open(encoding="utf-8") as file:
        return MappingProxyType(
            {
                label_key(row["label"]): Ambiguous(tuple(row["may_mean"].split(";")), row["because"])
                for row in csv.DictReader(file)
            }
        )


def similar_classes(label: str, most: int = 3) -> tuple[str, ...]:
    """Codes of the classes whose names are most like a label, the nearest first; perhaps none."""
    names, words = class_names(), set(label_key(label).split())
    shared = sorted(names, key=lambda name: -len(words & set(name.split())))
    near = [
        *get_close_matches(label_key(label), names, n=most, cutoff=0.8),
        *(name for name in shared if len(words & set(name.split())) > 1 or words >= set(name.split())),
    ]
    return tuple(dict.fromkeys(names[name] for name in near))[:most]
