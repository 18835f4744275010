"""A data set that others publish, as a manifest: what it is, where it is got, and what its list of images says.

Official splits are kept. Where a set has no validation images, a share of the patients of its training images becomes that;
where it has no split at all, images are split by patient. An image whose patient is not named is a group of its own, and the
reader says so.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mgll.formats import FormatError
from mgll.manifest.records import Record, Split
from mgll.readers.class_tables import read_classes
from mgll.readers.columns import Columns
from mgll.readers.labels import LabelReader
from mgll.readers.splits import SHARES, split_of_group
from mgll.readers.vocabularies import read_vocabulary
from mgll.readers.writing import Found
from mgll.vocabulary.label_texts import DISEASE, describe_labels

Field = Literal["fundus photographs", "radiographs", "CT", "masks"]
#: A whole number as programs write it whose column has empty cells.
_WHOLE = re.compile(r"^(-?\d+)\.0$")
_SPLIT, _GROUP = "official split", "group of images"


@dataclass(frozen=True)
class Download:
    """What there is to download.

    Attributes:
        name: what the data set is called, and the `source` of its images.
        reader: the module of `mgll.readers` that reads it.
        field: what its images are.
        what: which files, and the address of their page.
        licence: licence as that page states it.
    """

    name: str
    reader: str
    field: Field
    what: str
    licence: str


@dataclass(frozen=True)
class Listed:
    """One image as its data set lists it.

    Attributes:
        image: where it lies.
        cells: column -> cell, of the columns that say what is seen.
        split: the official split; None where there is none.
        patient: who is seen; "" where that is not said.
    """

    image: Path
    cells: Mapping[str, str]
    split: Split | None = None
    patient: str = ""


@dataclass(frozen=True)
class PublishedSet:
    """How a data set is read.

    Attributes:
        download: what it is.
        listed: its images, from its folder; what is left out is counted in the second argument.
        labels: columns whose cells are labels.
        one_hot: columns of 1 and 0 that are called as the labels.
        usual: the columns that are read if none are chosen; () are all.
        vocabulary: what the labels mean, names as for `--vocabulary`.
        classes: the class table, a name as for `--classes` of `mgll.readers.folder_csv`.
        separator: what stands between several labels in a cell.
        level: granularity of the labels' words.
        also_named: a column of `labels` whose cells may be names of the disease table, which no vocabulary has.
        own_classes: the words are classes of their own, because they are none of diseases (views, organs).
        validation: share of the patients of the training images that become the validation split, where there is no official one.
    """

    download: Download
    listed: Callable[[Path, Counter[str]], Iterable[Listed]]
    labels: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    classes: str = "fundus"
    separator: str = ""
    level: str = DISEASE
    also_named: str | None = None
    own_classes: bool = False
    validation: float = 0.0


@dataclass(frozen=True)
class Choices:
    """What a user chooses of a data set.

    Attributes:
        labels: the columns that are read; () takes the usual ones.
        vocabulary: read besides the data set's own, in the place of it where it says anything.
        uncertain_is_positive: read -1 in a one-hot column as 1.
        shares: shares of train, val and test of images without an official split.
        validation: see `PublishedSet`; None takes the data set's.
        seed: seed of every split that is not official.
    """

    labels: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    uncertain_is_positive: bool = False
    shares: tuple[float, float, float] = SHARES
    validation: float | None = None
    seed: int = 0


def read_published_set(data_set: PublishedSet, folder: Path, choices: Choices | None = None) -> Found:
    """Records of the images of a data set, and notes (reason -> number of images).

    Raises:
        FormatError: if a file of its layout is missing or wrong, or an image has no label that can be read.
        ValueError: for columns that it does not have.
    """
    choices = choices or Choices()
    columns, notes = _columns(data_set, choices), Counter[str]()
    met = LabelReader(table=columns.table)
    listed = list(_once(data_set.listed(folder, notes), notes))
    records = []
    for item, group, split in _grouped(listed, folder, data_set, choices, notes):
        cells = {name: _WHOLE.sub(r"\1", cell) for name, cell in item.cells.items()}
        row = defaultdict(str, cells) | {_GROUP: group, _SPLIT: split}
        try:
            record = columns.record(row, str(item.image), met, notes)
        except ValueError as error:
            raise FormatError(item.image, None, str(error)) from None
        records.append(_worded(record, data_set))
    met.refuse_ambiguous()
    if textless := sum(not record.texts for record in records):
        notes["kept without any text"] = textless
    return records, notes + met.notes()


def _columns(data_set: PublishedSet, choices: Choices) -> Columns:
    known = (*data_set.labels, *data_set.one_hot)
    if unknown := set(choices.labels) - set(known):
        raise ValueError(f"--labels: no column {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = choices.labels or data_set.usual or known
    written, one_hot = (tuple(name for name in own if name in chosen) for own in (data_set.labels, data_set.one_hot))
    table = read_classes(data_set.classes)
    vocabulary = read_vocabulary(data_set.vocabulary, table)
    if choices.vocabulary:
        own = read_vocabulary(choices.vocabulary, table)
        vocabulary = replace(vocabulary, meanings={**vocabulary.meanings, **own.meanings})
    return Columns(
        levels={data_set.level: written},
        one_hot={data_set.level: one_hot} if one_hot else {},
        group=_GROUP,
        split=_SPLIT,
        labels=(data_set.also_named,) if data_set.also_named in written else (),
        table=table,
        source=data_set.download.name,
        licence=data_set.download.licence,
        separators=dict.fromkeys((data_set.level, "labels"), (data_set.separator,)) if data_set.separator else {},
        vocabulary=vocabulary,
        uncertain_is_positive=choices.uncertain_is_positive,
    )


def _once(listed: Iterable[Listed], notes: Counter[str]) -> Iterator[Listed]:
    seen: set[Path] = set()
    for item in listed:
        if item.image in seen:
            notes["listed again; the first entry is kept"] += 1
            continue
        seen.add(item.image)
        yield item


def _grouped(
    listed: Sequence[Listed], folder: Path, data_set: PublishedSet, choices: Choices, notes: Counter[str]
) -> Iterator[tuple[Listed, str, Split]]:
    """Each image with its group and split. Groups are called the same wherever the data set lies, as splits follow from them."""
    splits: defaultdict[str, set[Split | None]] = defaultdict(set)
    for item in listed:
        splits[item.patient].add(item.split)
    validation = data_set.validation if choices.validation is None else choices.validation
    official = {item.split for item in listed}
    for item in listed:
        group = item.patient
        if not group:
            group = item.image.relative_to(folder).as_posix() if item.image.is_relative_to(folder) else str(item.image)
            notes["no patient is named: a group of its own, though some may show one patient"] += 1
        elif len(splits[group]) > 1:
            group = f"{group} in {item.split}"
            notes["its patient is in several official splits, which are kept: a group in each"] += 1
        if item.split is None:
            notes["no official split: split by group"] += 1
            yield item, group, split_of_group(group, choices.seed, choices.shares)
        elif item.split == "train" and "val" not in official and validation:
            split = split_of_group(group, choices.seed, (1 - validation, validation, 0))
            notes["no official validation split: taken from the training images"] += split == "val"
            yield item, group, split
        else:
            yield item, group, item.split


def _worded(record: Record, data_set: PublishedSet) -> Record:
    """The record with the paper's texts of its classes (Table 10) where it is a fundus photograph, or with classes of its own."""
    words = record.texts.get(data_set.level, ())
    if data_set.own_classes:
        return record.model_copy(update={"labels": words})
    if data_set.download.field != "fundus photographs":
        return record
    texts = describe_labels(record.labels)
    texts[DISEASE] = tuple(dict.fromkeys([*texts[DISEASE], *words]))
    return record.model_copy(update={"texts": {level: own for level, own in texts.items() if own}})
