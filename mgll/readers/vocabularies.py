"""Vocabularies: what a data set means by its labels. Several are shipped, others are a CSV file of the user.

A file has the columns `label` (or `synonym`; a cell, or the name of a one-hot column) and `class` (codes or names of classes,
separated by `;`), and may have `words` (texts that replace the label; without them the names of the classes) and `column` (the
only columns, separated by `;`, in which the label means this). A label with neither class nor words is read as nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from mgll.formats import FormatError
from mgll.readers.cells import whole_number
from mgll.readers.tables import open_table
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.labels import class_named, label_key

_FOLDER = Path(str(files("mgll.vocabulary") / "data_sets"))
#: Short names of the vocabularies that are shipped. `mgll` are the class codes of this project themselves.
SHIPPED = ("mgll", *sorted(path.stem for path in _FOLDER.glob("*.csv")))


@dataclass(frozen=True)
class Meaning:
    """What a label means: class codes, and words for the texts of an image."""

    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.words and not self.codes:
            return "nothing"
        classes = f"class {' and '.join(self.codes)}" if self.codes else "no class"
        return f"{' and '.join(repr(words) for words in self.words)} ({classes})"


@dataclass(frozen=True)
class Vocabulary:
    """What labels mean, by column and label (both without regard to case and spelling; column "" is any column)."""

    meanings: Mapping[tuple[str, str], Meaning] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.meanings)

    def meaning(self, label: str, column: str = "") -> Meaning | None:
        """What a label of a column means; None where this is not said."""
        own, keys = label_key(column), dict.fromkeys([label_key(label), label_key(whole_number(label))])
        return next((found for key in keys for where in (own, "") if (found := self.meanings.get((where, key)))), None)

    def names_column(self, column: str) -> bool:
        """Whether a column is called like a label, or has labels of its own."""
        key = label_key(column)
        return any(key == own or (not own and key == label) for own, label in self.meanings)


def read_vocabulary(choices: Sequence[str], table: ClassTable = FUNDUS) -> Vocabulary:
    """Read vocabularies into one.

    Args:
        choices: short names of shipped vocabularies, paths of files, or either as `COLUMN=NAME` to use it for that column alone.
        table: the classes. Of a shipped vocabulary for another table the words alone are taken.

    Raises:
        FormatError: for a file that is missing or wrong.
        ValueError: for two vocabularies that say different things of a label.
    """
    meanings: dict[tuple[str, str], Meaning] = {}
    for choice in choices:
        column, equals, name = choice.partition("=")
        if not equals or Path(choice).is_file():
            column, name = "", choice
        for (own, label), meaning in _entries(name.strip(), table):
            key = (label_key(column) or own, label)
            if meanings.setdefault(key, meaning) != meaning:
                raise ValueError(
                    f"--vocabulary {choice}: {label!r} means {meaning}, but {meanings[key]} by a line or file before"
                )
    return Vocabulary(MappingProxyType(meanings))


def _entries(name: str, table: ClassTable) -> Iterator[tuple[tuple[str, str], Meaning]]:
    """Column and label, as they are compared, and meaning of every line of a vocabulary."""
    if name == "mgll":
        for code, disease in table.classes.items():
            yield ("", label_key(code)), Meaning((code,), (disease.name,))
        return
    path = _FOLDER / f"{name.lower()}.csv"
    is_shipped = path.is_file() and not Path(name).is_file()
    path = path if is_shipped else Path(name)
    if not path.is_file():
        raise FormatError(
            name, None, f"no such vocabulary; shipped are {', '.join(SHIPPED)}, others are a CSV file with label,class"
        )
    opened = open_table(path)
    label = next((column for column in ("label", "synonym", "term") if column in opened.header), "label")
    if missing := [column for column in (label, "class") if column not in opened.header]:
        raise FormatError(path, None, f"columns {missing} are missing, found {list(opened.header)}")
    for number, row in opened.rows:
        named = {said.strip(): class_named(said, table) for said in row["class"].split(";") if said.strip()}
        if (unknown := [said for said, code in named.items() if not code]) and not is_shipped:
            raise FormatError(path, number, f"field class: no such class code: {', '.join(unknown)}")
        codes = tuple(dict.fromkeys(code for code in named.values() if code))
        words = tuple(part.strip() for part in row.get("words", "").split(";") if part.strip())
        words = words or tuple(table.classes[code].name for code in codes) or ((row[label],) if unknown else ())
        if not row[label]:
            raise FormatError(path, number, f"field {label}: empty")
        for column in row.get("column", "").split(";"):
            yield (label_key(column), label_key(row[label])), Meaning(codes, words)
