"""What the fields of a row become in a manifest; for tables (`folder_csv`) and for shards (`webdataset_shards`)."""

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mgll.manifest.records import Record, Split
from mgll.readers.cells import is_bare_value, is_missing, is_positive
from mgll.readers.class_tables import add_classes_argument, read_classes
from mgll.readers.labels import (
    LabelReader,
    add_vocabulary_argument,
    bare_value,
    separator_of,
    spelled_separator,
)
from mgll.readers.splits import NAMES, SHARES, parse_shares, split_of_group
from mgll.readers.vocabularies import Vocabulary, read_vocabulary
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.label_texts import describe_labels

#: Column -> cell. A cell of a table is one string, a field of a JSON file may hold several.
Row = Mapping[str, str | Sequence[str]]
#: Stands for the class codes where a level is named.
LABELS = "labels"
#: Stands in the names of columns for what names an eye.
EYE = "{eye}"
#: A longer cell is a sentence, not labels.
_LONGEST_LABEL = 200


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Attributes:
        levels: granularity -> columns that hold its texts.
        one_hot: granularity (or `labels`) -> columns of 1 and 0 that are read by their names; () are all that the vocabulary names.
        group: column of the patient or eye; None makes each image its own group.
        split: column of the split; None splits by group.
        labels: columns of class names.
        source_column: column of the data set's name; None takes `source` for all.
        source: name of the data set.
        licence: licence of the images.
        shares: shares of train, val and test if images are split by group.
        seed: seed of the split by group.
        separators: column or level (or `labels`) -> what separates several texts in one cell, a column's own before its level's;
            without one a cell is one text.
        vocabulary: what the data set means by its labels; its words replace cells, and its classes are the image's.
        table: the classes.
        uncertain_is_positive: read -1 in a one-hot column as 1; otherwise it is left out, as 0 is.
        describe_labels: add the names and explanations of the classes to the texts.
    """

    levels: Mapping[str, tuple[str, ...]]
    one_hot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str | None = None
    split: str | None = None
    labels: tuple[str, ...] = ()
    source_column: str | None = None
    source: str = ""
    licence: str = ""
    shares: tuple[float, float, float] = SHARES
    seed: int = 0
    separators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    table: ClassTable = FUNDUS
    uncertain_is_positive: bool = False
    describe_labels: bool = False

    @property
    def names(self) -> list[str]:
        """Names of all columns that are read."""
        single = (self.group, self.split, self.source_column)
        chosen = (*self.levels.values(), *self.one_hot.values(), self.labels)
        return [*(name for name in single if name), *(name for columns in chosen for name in columns)]

    def of_eye(self, words: Sequence[str], header: Sequence[str]) -> "Columns":
        """The columns of one eye: `{eye}` in their names stands for the one of `words` by which they are in the header."""

        def named(column: str) -> str:
            return eye_column(column, words, header)

        def all_named(columns: Iterable[str]) -> tuple[str, ...]:
            return tuple(named(column) for column in columns)

        return replace(
            self,
            levels={level: all_named(columns) for level, columns in self.levels.items()},
            one_hot={level: all_named(columns) for level, columns in self.one_hot.items()},
            labels=all_named(self.labels),
            group=self.group and named(self.group),
            split=self.split and named(self.split),
            source_column=self.source_column and named(self.source_column),
            separators={named(name): marks for name, marks in self.separators.items()},
        )

    def record(self, row: Row, image: str, met: LabelReader, notes: Counter[str], name: str | None = None) -> Record:
        """The record of an image; its labels are counted in `met`, and what was guessed or left out in `notes`.

        An image whose group is missing is a group of its own: unknown patients are not one patient. That group is
        called `name`, which must not depend on where the data set lies, as the split follows from it; None takes `image`.

        Raises:
            ValueError: for an unknown split, a bare value where words are needed, or a one-hot column that holds something else.
        """
        alone = name or image
        group = _single(row, self.group) if self.group else alone
        if is_missing(group):
            group = alone
            notes[f"{self.group} is missing: a group of its own, though some may show one patient"] += 1
        labels = LabelReader(self.vocabulary, self.table)
        texts: dict[str, dict[str, None]] = {}
        codes: dict[str, None] = {}
        for level in dict.fromkeys([*self.levels, *self.one_hot]):
            written = [*self._written(row, level, labels, notes), *self._one_hot(row, level, labels, notes)]
            for words, meant in written:
                codes |= dict.fromkeys(meant)
                if level != LABELS:
                    texts.setdefault(level, {}).update(dict.fromkeys(words))
        for column in self.labels:
            for label in self._parts(row[column], column, LABELS):
                codes |= dict.fromkeys(labels.codes(label, column))
        met.add_image(labels)
        if self.describe_labels and codes:
            for level, own in describe_labels(codes, table=self.table).items():
                texts.setdefault(level, {}).update(dict.fromkeys(own))
        source = _single(row, self.source_column) if self.source_column else self.source
        return Record(
            image=image,
            split=self._split(row, group),
            group=group,
            texts={level: tuple(own) for level, own in texts.items() if own},
            labels=tuple(codes),
            source="" if is_missing(source) else source,
            licence=self.licence,
        )

    def _split(self, row: Row, group: str) -> Split:
        if self.split is None:
            return split_of_group(group, self.seed, self.shares)
        name = _single(row, self.split)
        if name.lower() not in NAMES:
            raise ValueError(f"field {self.split}: expected one of {', '.join(NAMES)}, found {name!r}")
        return NAMES[name.lower()]

    def _written(
        self, row: Row, level: str, labels: LabelReader, notes: Counter[str]
    ) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Words and class codes of the cells of a level: those of the vocabulary, else the cell as it stands and no class."""
        for column in self.levels.get(level, ()):
            for part in self._parts(row[column], column, level):
                if meaning := labels.meaning(part, column):
                    yield meaning.words, meaning.codes
                elif is_missing(part):
                    notes[f"{column} is {part!r}: read as missing"] += 1
                elif is_bare_value(part):
                    raise ValueError(bare_value(part, column))
                else:
                    if labels.vocabulary:
                        notes[f"a text of {column} that no vocabulary has is kept as written"] += 1
                    if separator := separator_of(part, self.table) if len(part) <= _LONGEST_LABEL else None:
                        mark = spelled_separator(separator)
                        notes[f"a text of {column} looks like several; --separator '{level}={mark}' parts them"] += 1
                    yield (part,), ()

    def _one_hot(
        self, row: Row, level: str, labels: LabelReader, notes: Counter[str]
    ) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Words and class codes of the columns that hold 1: those of the vocabulary, else the column's name."""
        if level not in self.one_hot:
            return
        columns = self.one_hot[level] or [name for name in row if labels.vocabulary.names_column(name)]
        if not columns:
            raise ValueError(f"--one-hot {level}: no --vocabulary names any of the columns {', '.join(row)}")
        for column in columns:
            cell = _single(row, column)
            if meaning := labels.vocabulary.meaning(cell, column) if not is_missing(cell) else None:
                labels.meaning(cell, column)
                yield meaning.words, meaning.codes
                continue
            if not self._is_positive(column, cell, notes):
                continue
            if meaning := labels.meaning(column):
                yield meaning.words, meaning.codes
            else:
                yield (column,), labels.codes(column) if level == LABELS else ()

    def _is_positive(self, column: str, cell: str, notes: Counter[str]) -> bool:
        if is_missing(cell):
            notes[f"{column} is blank: read as not stated"] += 1
            return False
        try:
            positive = is_positive(cell)
        except ValueError as error:
            raise ValueError(f"field {column}: {error}; --one-hot is for columns of 1 and 0") from None
        if positive is None:
            done = "read as positive" if self.uncertain_is_positive else "left out"
            notes[f"{column} is -1 (uncertain): {done}"] += 1
            return self.uncertain_is_positive
        return positive

    def _parts(self, cell: str | Sequence[str], column: str, level: str) -> list[str]:
        parts = [cell] if isinstance(cell, str) else list(cell)
        for separator in self.separators.get(column) or self.separators.get(level) or ():
            parts = [piece for part in parts for piece in part.split(separator)]
        return [part.strip() for part in parts if part.strip()]


def eye_column(column: str, words: Sequence[str], header: Sequence[str]) -> str:
    """The column that a name with `{eye}` means for an eye: with the first of its words by which there is one.

    Args:
        column: the name; one without `{eye}` is about both eyes.
        words: what the eye is called.
        header: the columns that there are.
    """
    known = {" ".join(name.lower().split()): name for name in header}
    spelled = [column.replace(EYE, word) for word in words]
    return next((known[name.lower()] for name in spelled if name.lower() in known), spelled[0])


def _single(row: Row, column: str) -> str:
    cell = row[column]
    if not isinstance(cell, str):
        raise ValueError(f"field {column}: expected one value, found {len(cell)}")
    return cell


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose columns, such as `--level` and `--group`, to a command line."""
    add = parser.add_argument
    add(
        "--level",
        action="append",
        default=[],
        metavar="LEVEL=COLUMN,...",
        help="a granularity and its columns; repeat it",
    )
    add(
        "--one-hot",
        action="append",
        nargs="?",
        const="",
        default=[],
        metavar="LEVEL[=COLUMN,...]",
        help="columns of 1, 0, -1 (uncertain) or nothing, read by their names; LEVEL=COLUMN,... names them, LEVEL alone takes"
        " those of --level LEVEL, else all that --vocabulary names; without LEVEL: of every --level. LEVEL may be labels: classes",
    )
    add("--uncertain", default="leave-out", choices=["leave-out", "positive"], help="one-hot cells of value -1")
    add_vocabulary_argument(parser)
    add("--group", metavar="COLUMN", help="patient or eye; without it every image is its own group")
    add("--split", metavar="COLUMN", help="train, val or test; without it images are split by group")
    add_classes_argument(parser)
    add(
        "--labels",
        action="append",
        default=[],
        metavar="COLUMN,...",
        help="class names, read by --vocabulary, else by the names of --classes; repeat it. Without --level the texts are the"
        " names and explanations of these classes",
    )
    add("--describe-labels", action="store_true", help="add these names and explanations to the texts of --level")
    add(
        "--separator",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="what stands between several texts in a cell of this column or level, or of `labels` (\\n is a line break); repeat it",
    )
    add("--source", default="", help="name of the data set")
    add("--source-column", metavar="COLUMN", help="column with the name of the data set")
    add("--licence", default="", help="licence of the images")
    add("--shares", type=parse_shares, default=SHARES, help="shares of train, val and test (default: 0.7,0.1,0.2)")
    add("--seed", type=int, default=0, help="seed of the split by group")


def chosen_columns(options: argparse.Namespace) -> Columns:
    """The columns that the flags name.

    Raises:
        FormatError: for a vocabulary that is missing or wrong.
        ValueError: for a flag that is not of the form NAME=VALUE, a separator for a level that is not chosen, or one-hot columns
            that nothing names.
    """
    levels = _by_level(map(_pair, options.level))
    table = read_classes(options.classes)
    vocabulary = read_vocabulary(options.vocabulary, table)
    labels = tuple(column for choice in options.labels for column in _names(choice))
    one_hot = _one_hot_columns(options.one_hot, levels, vocabulary)
    separators: dict[str, tuple[str, ...]] = {}
    for name, mark in map(_pair, options.separator):
        separators[name] = (*separators.get(name, ()), mark.replace("\\n", "\n").replace("\\t", "\t"))
    columns = {column for own in levels.values() for column in own} | set(labels)
    if unknown := sorted(separators.keys() - levels.keys() - one_hot.keys() - columns - {LABELS}):
        raise ValueError(f"--separator for {', '.join(unknown)}: no such --level, nor a column of one or of --labels")
    return Columns(
        levels=levels,
        one_hot=one_hot,
        group=options.group,
        split=options.split,
        labels=labels,
        source_column=options.source_column,
        source=options.source,
        licence=options.licence,
        shares=options.shares,
        seed=options.seed,
        separators=separators,
        vocabulary=vocabulary,
        table=table,
        uncertain_is_positive=options.uncertain == "positive",
        describe_labels=options.describe_labels or not (levels or one_hot.keys() - {LABELS}),
    )


def _one_hot_columns(
    choices: Sequence[str], levels: dict[str, tuple[str, ...]], vocabulary: Vocabulary
) -> dict[str, tuple[str, ...]]:
    """One-hot columns by level; those that --level named are taken out of `levels`."""
    if "" in choices and not levels:
        raise ValueError("--one-hot: no --level whose columns it is about; name both, as --one-hot disease=DR,AMD")
    named = [choice for choice in choices if choice] + (list(levels) if "" in choices else [])
    one_hot = _by_level(_pair(choice) for choice in named if "=" in choice)
    for level in (choice.strip() for choice in named if "=" not in choice):
        if level not in levels and not vocabulary:
            raise ValueError(
                f"--one-hot {level}: no such --level; name the columns (--one-hot disease={level}) or a --vocabulary that does"
            )
        one_hot[level] = levels.pop(level, ())
    return one_hot


def _by_level(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for level, columns in pairs:
        found[level] = (*found.get(level, ()), *_names(columns))
    return found


def _names(columns: str) -> tuple[str, ...]:
    """Columns between commas; one with a comma in its name stands in quotation marks."""
    return tuple(name.strip() for name in next(csv.reader([columns], skipinitialspace=True), []) if name.strip())


def _pair(choice: str) -> tuple[str, str]:
    name, equals, value = choice.partition("=")
    if not (equals and name.strip() and value):
        raise ValueError(f"expected NAME=VALUE, such as --level disease=finding, found {choice!r}")
    return name.strip(), value
