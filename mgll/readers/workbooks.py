"""Excel workbooks: the filled sheets of one, as rows of texts."""

import os
import zipfile

from mgll.formats import FormatError

#: A workbook is read whole, and takes many times its unpacked size in memory.
MAX_WORKBOOK_BYTES = 100_000_000
#: Endings of the formats that pandas and openpyxl read, and of those that they do not.
WORKBOOKS, OTHER_WORKBOOKS = {".xlsx", ".xlsm"}, {".xls", ".xlsb", ".ods"}

Rows = list[tuple[int, list[str]]]


def sheet_rows(path: str | os.PathLike[str], told: list[str] | None = None) -> dict[str, Rows]:
    """Sheet -> number and stripped cells of every row that is not blank; sheets without such a row are left out.

    Cells that are merged over several rows hold in each of them what the first holds; `told` gets a sentence where there are any.

    Raises:
        FormatError: for a file that is no workbook, or one that unpacks to more than the memory should hold.
    """
    # here, because they take a moment to import and few tables are workbooks
    import pandas

    try:
        with zipfile.ZipFile(path) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
            if unpacked > MAX_WORKBOOK_BYTES:
                raise ValueError(f"{unpacked // 1_000_000} MB unpacked; save it as CSV")
            merges = any(b"<mergeCell " in parts.read(name) for name in parts.namelist() if "/worksheets/sheet" in name)
        sheets = pandas.read_excel(
            path, sheet_name=None, header=None, dtype=str, keep_default_na=False, na_filter=False, engine="openpyxl"
        )
        merged = _merged(path) if merges else {}
    except (
        Exception
    ) as error:  # openpyxl fails in any way on a file that is none: BadZipFile, KeyError, ValueError, ...
        raise FormatError(path, None, f"not a readable .xlsx workbook ({error or type(error).__name__})") from None
    found = {}
    for name, sheet in sheets.items():
        rows = [
            (number, [str(cell).strip() for cell in cells])
            for number, cells in enumerate(sheet.itertuples(index=False, name=None), start=1)
        ]
        for left, top, right, bottom in merged.get(str(name), ()):
            for row in range(top, min(bottom, len(rows))):
                rows[row][1][left - 1 : right] = rows[top - 1][1][left - 1 : right]
        if told is not None and merged.get(str(name)):
            told.append(
                f"sheet {name!r}: {len(merged[str(name)])} merged cells; each of their rows holds what the first holds"
            )
        if filled := [(number, cells) for number, cells in rows if any(cells)]:
            found[str(name)] = filled
    return found


def _merged(path: str | os.PathLike[str]) -> dict[str, list[tuple[int, int, int, int]]]:
    """Sheet -> first column, first row, last column and last row of every cell that is merged over several rows."""
    from openpyxl import load_workbook

    sheets = load_workbook(path, data_only=True).worksheets
    ranges = {sheet.title: [cells.bounds for cells in sheet.merged_cells.ranges] for sheet in sheets}
    return {name: [bounds for bounds in own if bounds[3] > bounds[1]] for name, own in ranges.items()}
