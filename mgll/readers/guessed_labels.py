"""Which columns of a table hold labels, how their cells are parted, and which class table and vocabulary know them."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mgll.readers.cells import is_bare_value, is_missing, is_positive, whole_number
from mgll.readers.class_tables import SHIPPED_CLASSES, read_classes
from mgll.readers.folder_images import FolderImages
from mgll.readers.labels import SEPARATORS, known_to, spelled_separator
from mgll.readers.proposal import Proposal, merged_eyes, quoted
from mgll.readers.vocabularies import SHIPPED, Vocabulary, read_vocabulary
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.labels import ambiguous_labels, class_named, label_key

_DR_GRADE = re.compile(r"\bdr\b|retinopath|icdr|diagnosis|level|grade", re.I)


@dataclass(frozen=True)
class _Named:
    """A column of labels: how it is parted, and what knows its labels."""

    column: str
    separator: str | None
    parts: Counter[str]
    empty: int = 0
    values: frozenset[str] = frozenset()  # numbers and the like beside the words

    def known(self, table: ClassTable, vocabulary: Vocabulary | None = None) -> int:
        """Number of labels, counted as often as they stand there, of which the class is known."""
        return sum(
            times
            for part, times in self.parts.items()
            if (vocabulary and vocabulary.meaning(part, self.column))
            or (class_named(part, table) and label_key(part) not in ambiguous_labels(table))
        )


def choose_labels(
    columns: Mapping[str, Sequence[str]],
    templates: Mapping[str, Mapping[str, str]],
    classes: str,
    images: FolderImages,
    proposal: Proposal,
) -> None:
    """Choose columns of class names, or of grades, or of 1 and 0, and the class table and vocabulary that know them."""
    texts = merged_eyes(columns, templates, proposal.used)
    named = [own for name, cells in texts.items() if (own := _named(name, cells))]
    tables = {name: read_classes(name) for name in ([classes] if classes != "fundus" else SHIPPED_CLASSES)}
    choice = max(tables, key=lambda name: sum(own.known(tables[name]) for own in named), default=classes)
    table = tables[choice]
    vocabularies = {name: read_vocabulary([name], table) for name in SHIPPED if name != "mgll"}

    def share(own: _Named, vocabulary: Vocabulary | None = None) -> float:
        return own.known(table, vocabulary) / own.parts.total()

    chosen = [own for own in named if max([share(own), *(share(own, one) for one in vocabularies.values())]) >= 0.4]
    chosen = [own for own in chosen if _values_are_read(own, table, proposal)]
    grades = {name: cells for name, cells in texts.items() if _are_grades(name, cells)}
    one_hot = {name: cells for name, cells in texts.items() if _are_one_hot(cells) and name not in grades}
    if choice != "fundus":
        proposal.add(f"as typed, or the shipped table that knows the most labels ({table.name})", "--classes", choice)
    if chosen:
        _add_named(chosen, table, vocabularies, proposal)
    elif grades:
        for name in grades:
            values = ", ".join(sorted(set(filter(None, map(whole_number, texts[name])))))
            why = f"its cells are {values}, read as grades of diabetic retinopathy"
            proposal.add(
                f"{why} (0 none to 4 proliferative): make sure of it", "--labels", name, "--vocabulary", f"{name}=icdr"
            )
            proposal.used.add(name)
    elif not _add_one_hot(one_hot, table, vocabularies, proposal):
        proposal.add(
            f"no column holds names of classes ({', '.join(tables)}){_folders_like_classes(images, tables)}; say what your labels"
            " mean in a file (--labels COLUMN --synonyms FILE with label,class), or bring your own classes (--classes FILE with"
            " name,synonyms,explanation)"
        )


def _values_are_read(own: _Named, table: ClassTable, proposal: Proposal) -> bool:
    """Whether a column of words has no numbers beside them, or only the grades that a vocabulary of its own then reads."""
    if not own.values:
        return True
    values = sorted(own.values)
    shown = ", ".join(map(repr, values[:4])) + ", ..." * (len(values) > 4)
    if {whole_number(value) for value in values} <= {"0", "1", "2", "3", "4"}:
        grades = read_vocabulary([f"{own.column}=icdr"], table)
        of_grades = sum(times for part, times in own.parts.items() if grades.meaning(part, own.column))
        # of another disease, the same numbers would be other grades
        if all(grades.meaning(value, own.column) for value in values) and of_grades > 0.8 * own.parts.total():
            why = f"beside words it holds {shown}, read as grades of diabetic retinopathy (0 none to 4 proliferative)"
            proposal.add(f"{why}: make sure of it", "--vocabulary", f"{own.column}=icdr")
            return True
    proposal.add(
        f"column {own.column!r} mixes words with values ({shown}) and is left out: say in a file with label,class what each of them"
        f" means, then add --labels {shlex.quote(quoted(own.column))} --vocabulary {shlex.quote(own.column)}=FILE.csv"
    )
    return False


def _folders_like_classes(images: FolderImages, tables: Mapping[str, ClassTable]) -> str:
    """A hint where folders are called like classes; nothing where none is."""
    folders = dict.fromkeys(part for name in images.names for part in PurePosixPath(name).parts[:-1])
    known = [folder for folder in folders if any(class_named(folder, table) for table in tables.values())]
    return f", but folders do ({', '.join(known[:4])}): write them into a column of the table" if known else ""


def _named(column: str, cells: Sequence[str]) -> _Named | None:
    """How a column of words is parted, by the separator with which most of its parts are known; None for one without words."""
    filled = [cell for cell in cells if not is_missing(cell) and not is_bare_value(cell) and len(cell) <= 400]
    if len(filled) < max(len(cells) / 20, 1):
        return None

    values = frozenset(cell for cell in cells if not is_missing(cell) and is_bare_value(cell))

    def parted(separator: str | None) -> _Named:
        parts = (part.strip() for cell in filled for part in (cell.split(separator) if separator else [cell]))
        known = Counter(part for part in parts if not is_missing(part))
        return _Named(column, separator, known, sum(map(is_missing, cells)), values | set(filter(is_bare_value, known)))

    def known(own: _Named) -> float:
        return sum(times for part, times in own.parts.items() if _anyone_knows(part)) / max(own.parts.total(), 1)

    whole = parted(None)
    ways = [whole, *(parted(mark) for mark in SEPARATORS if any(mark in cell for cell in filled))]
    best = max(ways, key=known)
    return best if known(best) > 0 else None


def _anyone_knows(label: str) -> bool:
    tables = [read_classes(name) for name in SHIPPED_CLASSES]
    if any(class_named(label, table) or label_key(label) in ambiguous_labels(table) for table in tables):
        return True
    return bool(known_to(label))


def _add_named(
    chosen: Sequence[_Named], table: ClassTable, vocabularies: Mapping[str, Vocabulary], proposal: Proposal
) -> None:
    for own in chosen:
        label, times = own.parts.most_common(1)[0]
        known, total = own.known(table), own.parts.total()
        why = f"{known} of {total} labels name a class (the most frequent: {label!r}, {times} times)"
        flags = ["--labels", quoted(own.column)]
        if own.empty:
            why += f"; {own.empty} cells are empty, and their images get no label"
        if own.separator:
            flags += ["--separator", f"{own.column}={spelled_separator(own.separator)}"]
            why += f", parted at {own.separator!r}"
        proposal.add(why, *flags)
        proposal.used.add(own.column)
    total = sum(own.parts.total() for own in chosen)
    known = sum(own.known(table) for own in chosen)
    best = max(vocabularies, key=lambda name: sum(own.known(table, vocabularies[name]) for own in chosen))
    more = sum(own.known(table, vocabularies[best]) for own in chosen)
    graded = [f"{own.column}=icdr" for own in chosen if own.values]
    vocabulary: Vocabulary | None = None
    if graded:
        vocabulary = read_vocabulary(graded, table)
    elif more > known + total / 20:
        vocabulary = vocabularies[best]
        proposal.add(f"with it {more} of {total} labels are known: is this such a data set?", "--vocabulary", best)
    unknown = Counter[str]()
    for own in chosen:
        for part, times in own.parts.items():
            if not _Named(own.column, None, Counter({part: 1})).known(table, vocabulary):
                unknown[part] += times
    if unknown:
        listed = ", ".join(f"{label!r} {times}" for label, times in unknown.most_common(12))
        others = f", and {len(unknown) - 12} more" if len(unknown) > 12 else ""
        proposal.add(
            f"labels that are not known, or mean several things: {listed}{others}; say in a file what they mean, --synonyms FILE"
            " with label,class"
        )


def _add_one_hot(
    one_hot: Mapping[str, Sequence[str]],
    table: ClassTable,
    vocabularies: Mapping[str, Vocabulary],
    proposal: Proposal,
) -> bool:
    plain = [name for name in one_hot if class_named(name, table) and label_key(name) not in ambiguous_labels(table)]
    by_vocabulary = {
        name: [column for column in one_hot if own.names_column(column)] for name, own in vocabularies.items()
    }
    best = max(by_vocabulary, key=lambda name: len(by_vocabulary[name]))
    if len(by_vocabulary[best]) > len(plain):
        columns = by_vocabulary[best]
        why = f"{len(columns)} columns of 1 and 0 are called like its labels ({', '.join(columns[:6])}): is this such a data set?"
        proposal.add(why, "--one-hot", f"disease={quoted(*columns)}", "--vocabulary", best)
    elif plain:
        columns = plain
        why = f"{len(plain)} columns of 1 and 0 are called like classes"
        proposal.add(why, "--one-hot", f"labels={quoted(*plain)}")
    else:
        return False
    proposal.used.update(columns)
    return True


def _are_one_hot(cells: Sequence[str]) -> bool:
    try:
        said = [is_positive(cell) for cell in set(cells) if not is_missing(cell)]
    except ValueError:
        return False
    return any(said)


def _are_grades(name: str, cells: Sequence[str]) -> bool:
    values = {whole_number(cell) for cell in cells if not is_missing(cell)}
    return {"0", "2"} <= values <= {"0", "1", "2", "3", "4"} and bool(_DR_GRADE.search(name.replace("_", " ")))
