"""What records and cases share: each knows the class table that its class codes are of, as the header of its file says."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from os import PathLike
from typing import Any, Self, TypeVar

from pydantic import PrivateAttr

from mgll.formats import FormatError, Row, read_header
from mgll.vocabulary.classes import ClassTable, table_of_header
from mgll.vocabulary.diseases import FUNDUS

#: Name of the table in the context of validation.
CONTEXT = "classes"


class ClassedRow(Row):
    """A row whose class codes are those of a table: the fundus table, where nobody says otherwise."""

    _classes: ClassTable | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Take the table that the header of the file holds."""
        if context and context.get(CONTEXT) is not None:
            self._classes = context[CONTEXT]

    @property
    def table(self) -> ClassTable:
        """The table of the class codes."""
        return self._classes or FUNDUS

    def of(self, table: ClassTable) -> Self:
        """The row with another table."""
        row = self.model_copy()
        row._classes = None if table is FUNDUS else table
        return row


ClassedT = TypeVar("ClassedT", bound=ClassedRow)


def context_of(path: str | PathLike[str], schema: str) -> dict[str, Any] | None:
    """The context in which the rows of a file are validated: its own class table; None where they are of the fundus.

    Raises:
        FormatError: for a header that is none, or holds something else than a table.
    """
    try:
        table = _table(json.dumps(read_header(path, schema).get("classes")))
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(path, 1, str(error)) from None
    return None if table is None else {CONTEXT: table}


def classed_header(
    rows: Iterable[ClassedT], header: Mapping[str, object]
) -> tuple[Iterable[ClassedT], dict[str, object]]:
    """The rows, and the header with their class table: whatever is made of them keeps it.

    Rows of several tables raise ValueError when they are met.
    """
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        return (), dict(header)
    table = first.table

    def checked() -> Iterable[ClassedT]:
        for row in chain([first], iterator):
            if row.table is not table:
                raise ValueError(f"images of two class tables ({table.name}, {row.table.name}) can't stand in one file")
            yield row

    return checked(), {**header, **table.header()}


@lru_cache(maxsize=32)  # so that the tables of a manifest and of the cases made of it are one
def _table(entry: str) -> ClassTable | None:
    return table_of_header({"classes": json.loads(entry)})
