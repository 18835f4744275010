"""The classes of other fields than the fundus: shipped tables, and tables of the user's own.

A table (CSV, tab-separated, Excel) has the columns `code` or `name` or both, and may have `explanation`, and with several
entries parted by `;` the columns `synonyms`, `implies`, `excludes` (`*`: every other class, for images that show nothing) and
`may_also_be`. It is named once, to the reader: the manifest and the cases hold it from then on.
"""

import argparse
from importlib.resources import files
from pathlib import Path

from mgll.formats import FormatError
from mgll.readers.tables import open_table
from mgll.vocabulary.classes import ClassTable, class_table
from mgll.vocabulary.diseases import FUNDUS

_SEVERAL = ("synonyms", "implies", "excludes", "may_also_be")
_COLUMNS = ("code", "name", "explanation", *_SEVERAL)
#: Names of the tables that are shipped.
SHIPPED_CLASSES = (FUNDUS.name, "chest_xray")


def read_classes(choice: str) -> ClassTable:
    """The class table of a name that is shipped, or of a file.

    Raises:
        FormatError: for a file that is missing, no table, has an unknown column, or of which the classes do not fit together.
    """
    if choice == FUNDUS.name:
        return FUNDUS
    if choice in SHIPPED_CLASSES and not Path(choice).is_file():
        path = Path(str(files("mgll.vocabulary") / f"{choice}.csv"))
    else:
        path = Path(choice)
    if not path.is_file():
        raise FormatError(
            choice,
            None,
            f"no such class table; shipped are {', '.join(SHIPPED_CLASSES)}, others are a file with code,name",
        )
    opened = open_table(path)
    known = {column: name for column in opened.header if (name := "_".join(column.lower().split())) in _COLUMNS}
    if not {"code", "name"} & set(known.values()):
        raise FormatError(path, None, f"a class table has the column code or name, found {list(opened.header)}")
    if unknown := [column for column in opened.header if column and column not in known]:
        raise FormatError(path, None, f"columns {unknown} are none of a class table's: {', '.join(_COLUMNS)}")
    rows = [
        {name: _several(row[column]) if name in _SEVERAL else row[column] for column, name in known.items()}
        for _, row in opened.rows
    ]
    try:
        return class_table(path.stem, rows)
    except ValueError as error:
        raise FormatError(path, None, str(error)) from None


def add_classes_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the class table."""
    parser.add_argument(
        "--classes",
        default=FUNDUS.name,
        metavar="TABLE",
        help=f"the classes: {', '.join(SHIPPED_CLASSES)} or a table of your own with code or name, and perhaps synonyms, implies,"
        " excludes, may_also_be, explanation; it goes into the manifest (default: fundus)",
    )


def _several(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]
