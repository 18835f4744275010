"""CSV tables of other people's data sets, gzipped or not: rows with their line numbers, and no missing column."""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from mgll.formats import FormatError


def read_table(
    path: str | os.PathLike[str], columns: Iterable[str], delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row: the number of its last line, and column -> cell without surrounding white space.

    Args:
        path: a CSV file, UTF-8, `.gz` or plain.
        columns: columns that the table must have.
        delimiter: character between cells.

    Raises:
        FormatError: if the file is missing, not such a table, or lacks a column; or for a row that is too short or too long.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, "no such file")
    opened = gzip.open(path, "rb") if str(path).endswith(".gz") else Path(path).open("rb")  # noqa: SIM115
    with opened as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            if missing := sorted(set(columns) - set(reader.fieldnames or ())):
                raise FormatError(path, 1, f"columns {missing} are missing, found {list(reader.fieldnames or ())}")
            for row in reader:
                if None in row or None in row.values():
                    expected = len(reader.fieldnames or ())
                    raise FormatError(path, reader.line_num, f"expected {expected} cells; too many or too few here")
                yield reader.line_num, {column: cell.strip() for column, cell in row.items()}
        except UnicodeDecodeError as error:
            raise FormatError(path, reader.line_num + 1, f"not UTF-8 text ({error.reason}); save it as UTF-8") from None
        except (csv.Error, OSError, EOFError, zlib.error) as error:
            raise FormatError(path, reader.line_num, f"not a readable table ({error})") from None
