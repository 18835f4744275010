"""What is in a manifest, counted in one pass: images and groups by split and source, texts by level, classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mgll.manifest.contradictions import contradictions_of
from mgll.manifest.records import Record, Split

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class LevelCounts:
    """Counts of one granularity: how many images have it, and how often each of its texts occurs."""

    images: int = 0
    texts: Counter[str] = field(default_factory=Counter)


@dataclass
class Counts:
    """Counts of a manifest.

    Attributes:
        images: number of images by (source, split).
        groups: sources and names of the groups by split; a group is in one split only.
        levels: counts by granularity.
        levels_of_source: number of images that have a granularity, by (source, granularity).
        labels: number of images by (class code, split).
        multi_label: number of images with more than one class.
        unlabelled: number of images without any class.
        textless: number of images without any text.
        contradictions: number of images by what contradicts what (`Health beside Glaucoma`).
    """

    images: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    levels: defaultdict[str, LevelCounts] = field(default_factory=lambda: defaultdict(LevelCounts))
    levels_of_source: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    multi_label: int = 0
    unlabelled: int = 0
    textless: int = 0
    contradictions: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Number of images."""
        return self.images.total()


def count(records: Iterable[Record]) -> Counts:
    """Count the images, groups, texts and classes of the records, in one pass."""
    counts = Counts()
    for record in records:
        counts.images[record.source, record.split] += 1
        counts.groups[record.split].add(record.patient)
        for name, texts in record.texts.items():
            if texts:
                level = counts.levels[name]
                level.images += 1
                level.texts.update(texts)
                counts.levels_of_source[record.source, name] += 1
        counts.labels.update((label, record.split) for label in set(record.labels))
        counts.multi_label += len(record.labels) > 1
        counts.unlabelled += not record.labels
        counts.textless += not any(record.texts.values())
        counts.contradictions.update(contradictions_of(record))
    return counts


def print_counts(counts: Counts, console: "Console", most: int = 15) -> None:
    """Print the counts as tables, among them the `most` frequent texts of every level."""
    console.print(
        f"{counts.total:,} images of {sum(map(len, counts.groups.values())):,} groups;"
        f" {_share(counts.multi_label, counts.total)} with several classes, {_share(counts.unlabelled, counts.total)} with"
        f" none, {_share(counts.textless, counts.total)} without any text"
    )
    for table in (
        _by_split(counts),
        _by_source(counts),
        _by_level(counts),
        *_by_text(counts, most),
        _by_class(counts),
        _by_contradiction(counts),
    ):
        if table.row_count:
            console.print(table)


def _by_split(counts: Counts) -> "Table":
    table = _table("split", "images", "share", "groups", "images per group")
    for split in SPLITS:
        if groups := len(counts.groups[split]):
            images = sum(n for (_, s), n in counts.images.items() if s == split)
            table.add_row(split, f"{images:,}", _share(images, counts.total), f"{groups:,}", f"{images / groups:.2f}")
    return table


def _by_source(counts: Counts) -> "Table":
    """Images of each data set by split, and how many of them lack a level."""
    table = _table("source", "images", *SPLITS, *(f"no {level}" for level in counts.levels))
    totals: Counter[str] = Counter()
    for (source, _), images in counts.images.items():
        totals[source] += images
    for source, images in totals.most_common():
        missing = (images - counts.levels_of_source[source, level] for level in counts.levels)
        by_split = (counts.images[source, split] for split in SPLITS)
        table.add_row(source or "-", *(f"{n:,}" if n else "-" for n in (images, *by_split, *missing)))
    return table


def _by_level(counts: Counts) -> "Table":
    table = _table("level", "images", "missing", "texts", "unique texts", "texts per image")
    for name, level in counts.levels.items():
        texts, missing = level.texts.total(), counts.total - level.images
        table.add_row(
            name,
            f"{level.images:,}",
            f"{missing:,} ({_share(missing, counts.total)})",
            f"{texts:,}",
            f"{len(level.texts):,}",
            f"{texts / level.images:.2f}",
        )
    return table


def _by_text(counts: Counts, most: int) -> "list[Table]":
    tables = []
    for name, level in counts.levels.items():
        table = _table(f"{name}: most frequent of {len(level.texts):,} texts", "images")
        for text, times in level.texts.most_common(most):
            table.add_row(text if len(text) <= 90 else text[:89] + "…", f"{times:,}")
        tables.append(table)
    return tables


def _by_class(counts: Counts) -> "Table":
    table = _table("class", "images", *SPLITS)
    totals: Counter[str] = Counter()
    for (label, _), images in counts.labels.items():
        totals[label] += images
    for label, images in totals.most_common():
        table.add_row(label, f"{images:,}", *(f"{counts.labels[label, split]:,}" for split in SPLITS))
    return table


def _by_contradiction(counts: Counts) -> "Table":
    table = _table("contradictory labels, left out of questions", "images")
    for pair, images in counts.contradictions.most_common():
        table.add_row(pair, f"{images:,}")
    return table


def _table(first: str, *columns: str) -> "Table":
    # here, because rich takes a moment to import
    from rich.table import Table

    table = Table(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}"
