"""Tables of other people's data sets, as text (also gzipped) or Excel: rows with their numbers, and no column missing or twice."""

import csv
import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mgll.formats import FormatError

Cells = list[str]
#: Endings of the table formats that pandas and openpyxl read as workbooks.
_WORKBOOKS = {".xlsx", ".xlsm"}
_OTHER_WORKBOOKS = {".xls", ".xlsb", ".ods"}
_TABBED = {".tsv", ".tab"}
_SPELLED = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";"}


def read_table(
    path: str | os.PathLike[str], columns: Iterable[str], delimiter: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row: the number of its last line, and column -> cell without surrounding white space.

    Args:
        path: a text file in UTF-8, `.gz` or plain, or an Excel workbook (`.xlsx`) with one sheet.
        columns: columns that the table must have.
        delimiter: character between the cells of a text file; None takes a tab for `.tsv` and `.tab`, else a comma.

    Raises:
        FormatError: if the file is missing, not such a table, lacks a column or has one twice; or for a row that is too short or
            too long.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, "no such file")
    ending = Path(str(path).removesuffix(".gz")).suffix.lower()
    if ending in _OTHER_WORKBOOKS:
        raise FormatError(path, None, f"{ending} is not read; save it as .xlsx or as CSV")
    between = delimiter or ("\t" if ending in _TABBED else ",")
    rows = _workbook_rows(path) if ending in _WORKBOOKS else _text_rows(path, between)
    number, header = next(rows, (1, []))
    _check_header(path, number, header, columns)
    for number, cells in rows:
        if len(cells) != len(header):
            raise FormatError(path, number, f"expected {len(header)} cells; too many or too few here")
        yield number, dict(zip(header, cells, strict=True))


def parse_delimiter(text: str | None) -> str | None:
    r"""The character between cells as it is typed: itself, or `\t`, `tab`, `comma`, `semicolon`; None stays None.

    Raises:
        ValueError: for anything else.
    """
    if text is None:
        return None
    delimiter = _SPELLED.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"--delimiter: expected one character, such as ; or '\\t', found {text!r}")
    return delimiter


def _check_header(path: str | os.PathLike[str], number: int, header: Cells, columns: Iterable[str]) -> None:
    if twice := [name for name, times in Counter(header).items() if name and times > 1]:
        raise FormatError(path, number, f"columns {twice} stand twice in the header; rename or remove one of each")
    if missing := sorted(set(columns) - set(header)):
        other = next((d for d in ("\t", ";", ",", "|") if len(header) == 1 and d in header[0]), None)
        hint = f"; the cells look separated by {other!r}: add --delimiter {other!r}" if other else ""
        raise FormatError(path, number, f"columns {missing} are missing, found {header}{hint}")


def _text_rows(path: str | os.PathLike[str], delimiter: str) -> Iterator[tuple[int, Cells]]:
    opened = gzip.open(path, "rb") if str(path).endswith(".gz") else Path(path).open("rb")  # noqa: SIM115
    with opened as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
        except UnicodeDecodeError as error:
            raise FormatError(path, reader.line_num + 1, f"not UTF-8 text ({error.reason}); save it as UTF-8") from None
        except (csv.Error, OSError, EOFError, zlib.error) as error:
            raise FormatError(path, reader.line_num, f"not a readable table ({error})") from None


def _workbook_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, Cells]]:
    # here, because they take a moment to import and few tables are workbooks
    import pandas

    try:
        sheets = pandas.read_excel(
            path, sheet_name=None, header=None, dtype=str, keep_default_na=False, na_filter=False, engine="openpyxl"
        )
    except (
        Exception
    ) as error:  # openpyxl fails in any way on a file that is none: BadZipFile, KeyError, ValueError, ...
        raise FormatError(path, None, f"not a readable .xlsx workbook ({error or type(error).__name__})") from None
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if len(filled) > 1:
        names = ", ".join(map(repr, filled))
        raise FormatError(path, None, f"{len(filled)} sheets ({names}); save the one that you mean as a CSV file")
    for sheet in filled.values():
        for number, cells in enumerate(sheet.itertuples(index=False, name=None), start=1):
            stripped = [str(cell).strip() for cell in cells]
            if any(stripped):
                yield number, stripped
