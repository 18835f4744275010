"""What the fields of a row become in a manifest; for tables (`folder_csv`) and for shards (`webdataset_shards`)."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mgll.manifest.records import Record, Split
from mgll.readers.splits import NAMES, SHARES, parse_shares, split_of_group
from mgll.vocabulary.diseases import synonyms

#: Column -> cell. A cell of a table is one string, a field of a JSON file may hold several.
Row = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Attributes:
        levels: granularity -> columns that hold its texts.
        group: column of the patient or eye; None makes each image its own group.
        split: column of the split; None splits by group.
        labels: column of class names, mapped by the synonyms of `mgll.vocabulary`.
        source_column: column of the data set's name; None takes `source` for all.
        source: name of the data set.
        licence: licence of the images.
        shares: shares of train, val and test if images are split by group.
        seed: seed of the split by group.
        separators: level (or `labels`) -> what separates several texts in one cell; a level without a separator has one text per
            cell.
    """

    levels: Mapping[str, tuple[str, ...]]
    group: str | None = None
    split: str | None = None
    labels: str | None = None
    source_column: str | None = None
    source: str = ""
    licence: str = ""
    shares: tuple[float, float, float] = SHARES
    seed: int = 0
    separators: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all columns that are read."""
        single = (self.group, self.split, self.labels, self.source_column)
        return [*(name for name in single if name), *(name for columns in self.levels.values() for name in columns)]

    def record(self, row: Row, image: str, notes: Counter[str]) -> Record:
        """The record of an image; labels that no synonym covers are counted in `notes`.

        Raises:
            ValueError: for an unknown split, or a row without its group.
        """
        group = _single(row, self.group) if self.group else image
        if not group:
            raise ValueError(
                f"field {self.group}: the group is empty; images of unknown patients can't be split safely"
            )
        return Record(
            image=image,
            split=self._split(row, group),
            group=group,
            texts={level: texts for level in self.levels if (texts := self._texts(row, level))},
            labels=self._labels(row, notes),
            source=_single(row, self.source_column) if self.source_column else self.source,
            licence=self.licence,
        )

    def _split(self, row: Row, group: str) -> Split:
        if self.split is None:
            return split_of_group(group, self.seed, self.shares)
        name = _single(row, self.split)
        if name.lower() not in NAMES:
            raise ValueError(f"field {self.split}: expected one of {', '.join(NAMES)}, found {name!r}")
        return NAMES[name.lower()]

    def _texts(self, row: Row, level: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for column in self.levels[level] for text in self._parts(row[column], level)))

    def _labels(self, row: Row, notes: Counter[str]) -> tuple[str, ...]:
        codes: dict[str, None] = {}
        for name in self._parts(row[self.labels], "labels") if self.labels else ():
            if code := synonyms().get(name.lower()):
                codes[code] = None
            else:
                notes[f"no class for label {name!r}"] += 1
        return tuple(codes)

    def _parts(self, cell: str | Sequence[str], level: str) -> list[str]:
        cells = [cell] if isinstance(cell, str) else cell
        separator = self.separators.get(level)
        parts = [part for cell in cells for part in (cell.split(separator) if separator else [cell])]
        return [part.strip() for part in parts if part.strip()]


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
    add("--group", metavar="COLUMN", help="patient or eye; without it every image is its own group")
    add("--split", metavar="COLUMN", help="train, val or test; without it images are split by group")
    add("--labels", metavar="COLUMN", help="class names, mapped by the synonyms of mgll/vocabulary/diseases.csv")
    add(
        "--separator",
        action="append",
        default=[],
        metavar="LEVEL=TEXT",
        help="what stands between several texts in a cell of this level, or of `labels`; repeat it",
    )
    add("--source", default="", help="name of the data set")
    add("--source-column", metavar="COLUMN", help="column with the name of the data set")
    add("--licence", default="", help="licence of the images")
    add("--shares", type=parse_shares, default=SHARES, help="shares of train, val and test (default: 0.7,0.1,0.2)")
    add("--seed", type=int, default=0, help="seed of the split by group")


def chosen_columns(options: argparse.Namespace) -> Columns:
    """The columns that the flags name.

    Raises:
        ValueError: for a flag that is not of the form NAME=VALUE, or a separator for a level that is not chosen.
    """
    levels = {
        level: tuple(column.strip() for column in columns.split(",") if column.strip())
        for level, columns in map(_pair, options.level)
    }
    separators = dict(map(_pair, options.separator))
    if unknown := sorted(separators.keys() - levels.keys() - {"labels"}):
        raise ValueError(f"--separator for {', '.join(unknown)}: no such --level")
    return Columns(
        levels=levels,
        group=options.group,
        split=options.split,
        labels=options.labels,
        source_column=options.source_column,
        source=options.source,
        licence=options.licence,
        shares=options.shares,
        seed=options.seed,
        separators=separators,
    )


def _pair(choice: str) -> tuple[str, str]:
    name, equals, value = choice.partition("=")
    if not (equals and name.strip() and value):
        raise ValueError(f"expected NAME=VALUE, such as --level disease=finding, found {choice!r}")
    return name.strip(), value
