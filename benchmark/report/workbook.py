"""Tables as one Excel file: a sheet a table, numbers as numbers, intervals in columns of their own, text never a formula."""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd

from benchmark.report.tables import Table
from mgll.files import atomic_path

#: How the cells of a table write a number, and what follows it.
_NUMBER = re.compile(r"^([+-]?[\d,]+(?:\.\d+)?)(\u202f?%)?$")
#: Longest name of a sheet, and what it must not have.
_LENGTH, _FORBIDDEN = 31, re.compile(r"[\\/*?:\[\]]")
#: What no cell of the format can hold.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def write_workbook(path: Path, tables: Mapping[str, Table | pd.DataFrame]) -> None:
    """Write tables as sheets of an `.xlsx` file, atomically.

    A share such as `61.3 %` becomes 0.613 and is shown as a percentage; a data frame keeps its numbers as they are.

    Args:
        path: where to.
        tables: name of a sheet, shortened where Excel asks for it, -> the table.
    """
    # here, because it takes a moment to import
    from openpyxl import Workbook
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook()
    book.remove(book.active)
    taken: set[str] = set()
    for name, table in tables.items():
        sheet = book.create_sheet(_sheet_name(name, taken))
        widths: dict[int, int] = {}
        strong = set() if isinstance(table, pd.DataFrame) else {2 + line for line in table.strong}
        for line, row in enumerate(_rows(table), 1):
            for column, (value, percent) in enumerate(row, 1):
                value = (_CONTROL.sub("?", value) or None) if isinstance(value, str) else value
                cell = sheet.cell(line, column, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # a text that begins with = is no formula
                if percent:
                    cell.number_format = "0.0%"
                if line == 1 or line in strong:
                    cell.font = Font(bold=True)
                widths[column] = max(widths.get(column, 0), len(str(value)))
        for column, width in widths.items():
            sheet.column_dimensions[get_column_letter(column)].width = min(60, width + 2)
        sheet.freeze_panes = "B2"
    saved = BytesIO()
    book.save(saved)
    with atomic_path(path) as temporary:
        _timeless(saved, Path(temporary))


def _timeless(saved: BytesIO, path: Path) -> None:
    """The file without the time of its making, so that the same tables give the same bytes."""
    with ZipFile(saved) as old, ZipFile(path, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"1980-01-01T00:00:00Z", content)
            new.writestr(ZipInfo(name), content, ZIP_DEFLATED)


def _rows(table: Table | pd.DataFrame) -> Iterator[list[tuple[object, bool]]]:
    """The lines from the headings on: what stands in each cell, and whether it is shown as a percentage."""
    if isinstance(table, pd.DataFrame):
        yield [(str(name), False) for name in table.columns]
        yield from ([(None if pd.isna(v) else v, False) for v in row] for row in table.to_numpy(object).tolist())
        return
    wide = [any(row[column].detail for row in table.rows) for column in range(len(table.columns))]
    heads: list[tuple[object, bool]] = []
    for name, has_detail in zip(table.columns, wide, strict=True):
        heads += [(name, False)] + [(f"{name}, 95 % interval" if name else "95 % interval", False)] * has_detail
    yield heads
    for row in table.rows:
        cells: list[tuple[object, bool]] = []
        for column, cell in enumerate(row):
            cells.append((cell.text, False) if column < table.labels else _number(cell.text))
            cells += [(cell.detail, False)] * wide[column]
        yield cells


def _number(text: str) -> tuple[object, bool]:
    """What a figure says as a number, and whether it is a share; a text that is no number stays one."""
    found = _NUMBER.match(text.replace("−", "-"))
    if found is None:
        return text, False
    number = float(found[1].replace(",", ""))
    return (number / 100, True) if found[2] else (int(number) if number.is_integer() else number, False)


def _sheet_name(name: str, taken: set[str]) -> str:
    """A name that Excel takes and that no other sheet has, whatever the case of its letters."""
    start = _FORBIDDEN.sub(" ", _CONTROL.sub(" ", name)).strip("' ")[:_LENGTH] or "table"
    found, number = start, 1
    while found.lower() in taken:
        number += 1
        found = f"{start[: _LENGTH - 1 - len(str(number))]} {number}"
    taken.add(found.lower())
    return found
