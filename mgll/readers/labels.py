"""Labels as classes, by the vocabulary of the data set or else the names of the disease table; what was read as what is counted."""

import argparse
import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from mgll.readers.cells import is_bare_value, is_missing
from mgll.readers.vocabularies import SHIPPED, Meaning, Vocabulary, read_vocabulary
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.labels import ambiguous_labels, class_named, label_key, nearest_class, similar_classes

#: What may stand between several labels in one cell.
SEPARATORS = (";", "|", "，", "、", ",", "\n", "/", "+", "&", " und ", " and ")


@dataclass
class LabelReader:
    """Reads labels, and counts what it read.

    Attributes:
        vocabulary: what the data set means by its labels.
        table: the classes.
        unknown: labels that nothing covers.
        ambiguous: labels that only a vocabulary can decide.
        mapped: sentences that say which label was read as what.
    """

    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    table: ClassTable = FUNDUS
    unknown: Counter[str] = field(default_factory=Counter)
    ambiguous: Counter[str] = field(default_factory=Counter)
    mapped: Counter[str] = field(default_factory=Counter)

    def meaning(self, label: str, column: str = "") -> Meaning | None:
        """What the vocabulary says of a label; None where it says nothing."""
        if meaning := self.vocabulary.meaning(label, column):
            self.mapped[f"{label!r} read as {meaning}"] += 1
        return meaning

    def codes(self, label: str, column: str = "") -> tuple[str, ...]:
        """Class codes of a label; none where it is missing, unknown or ambiguous.

        Raises:
            ValueError: for a number or another bare value that the vocabulary does not decide.
        """
        if meaning := self.meaning(label, column):
            return meaning.codes
        if is_missing(label):
            return ()
        if label_key(label) in ambiguous_labels(self.table):
            self.ambiguous[label] += 1
        elif code := class_named(label, self.table):
            self.mapped[f"{label!r} read as class {code} ({self.table.classes[code].name})"] += 1
            return (code,)
        elif is_bare_value(label):
            raise ValueError(bare_value(label, column))
        else:
            self.unknown[label] += 1
        return ()

    def refuse_ambiguous(self) -> None:
        """Stop if labels were met that mean different things in different data sets.

        Raises:
            ValueError: naming them all, with what each may mean and what to type.
        """
        if not self.ambiguous:
            return
        said = []
        for label, images in self.ambiguous.most_common():
            known = ambiguous_labels()[label_key(label)]
            meant = [*map(self._named, known.may_mean), *(["something else"] if len(known.may_mean) == 1 else [])]
            said.append(f"{label!r} ({images} images): {' or '.join(meant)} ({known.because})")
        label = next(iter(self.ambiguous))
        line = _csv_line(label, ambiguous_labels()[label_key(label)].may_mean[-1])
        raise ValueError(
            f"labels that mean different things in different data sets: {'; '.join(said)}. Say which data set it is"
            f" (--vocabulary with {', '.join(SHIPPED[:-1])} or {SHIPPED[-1]}), or give a file: --vocabulary FILE.csv, first line"
            f" label,class, then lines such as {line}"
        )

    def add_image(self, other: "LabelReader") -> None:
        """Add what another reader met on one image, each label once however often it stands there."""
        self.unknown.update(set(other.unknown))
        self.ambiguous.update(set(other.ambiguous))
        self.mapped.update(set(other.mapped))

    def notes(self) -> Counter[str]:
        """What was read as what, and the labels without a class with what to type, each with its number of images."""
        return self.mapped + Counter({self._untold(label): images for label, images in self.unknown.items()})

    def _untold(self, label: str) -> str:
        """Say that a label has no class, and what to type."""
        said = f"no class for label {label!r}"
        if separator := separator_of(label, self.table):
            return f"{said}; perhaps several labels: --separator 'labels={spelled_separator(separator)}'"
        if known := known_to(label):
            return f"{said}; --vocabulary {' or '.join(known)} knows it"
        near, nearest = similar_classes(label, self.table), nearest_class(label, self.table)
        spelled = f" (spelled most like {self._named(nearest)})" if nearest else ""
        meant = f" (perhaps {' or '.join(map(self._named, near))})" if near else spelled
        line = _csv_line(label, near[0] if near else "CLASS")
        return f"{said}{meant}; --vocabulary FILE.csv with label,class and a line such as {line} gives it one"

    def _named(self, code: str) -> str:
        name = self.table.classes[code].name
        return code if code == name else f"{code} ({name})"


def separator_of(cell: str, table: ClassTable = FUNDUS) -> str | None:
    """What stands between several labels in a cell, of which one is known; None where the cell is one label."""
    for separator in SEPARATORS:
        parts = [part.strip() for part in cell.split(separator) if part.strip()]
        if len(parts) > 1 and any(
            class_named(part, table) or label_key(part) in ambiguous_labels(table) or known_to(part) for part in parts
        ):
            return separator
    return None


def spelled_separator(separator: str) -> str:
    """A separator as it is typed: a line break as two letters."""
    return separator.replace("\n", "\\n").replace("\t", "\\t")


def bare_value(cell: str, column: str) -> str:
    """Say that a cell holds a value where words are needed, and what to type."""
    return (
        f"field {column}: {cell!r} is a value, not words; columns of 1 and 0 are read by their names with --one-hot,"
        f" grades by --vocabulary {column or 'COLUMN'}=icdr (0 to 4 of diabetic retinopathy) or by --vocabulary"
        f" {column or 'COLUMN'}=FILE.csv, first line label,class,words, then a line for each value"
    )


def add_vocabulary_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says what labels mean."""
    parser.add_argument(
        "--vocabulary",
        "--synonyms",
        dest="vocabulary",
        action="append",
        default=[],
        metavar="[COLUMN=]NAME",
        help=f"what labels mean: {', '.join(SHIPPED)}, or a table with label,class and perhaps words,column; repeat it",
    )


def known_to(label: str) -> list[str]:
    """Shipped vocabularies that know a label."""
    return [name for name, vocabulary in _shipped().items() if vocabulary.meaning(label)]


@cache
def _shipped() -> dict[str, Vocabulary]:
    return {name: read_vocabulary([name]) for name in SHIPPED}


def _csv_line(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
