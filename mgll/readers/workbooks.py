"""Excel workbooks: the filled sheets of one, as rows of texts."""

import os
import zipfile

from mgll.formats import FormatError

#: A workbook is read whole, and takes many times its unpacked size in memory.
MAX_WORKBOOK_BYTES = 100_000_000
#: Endings of the formats that pandas and openpyxl read, and of those that they do not.
WORKBOOKS, OTHER_WORKBOOKS = {".xlsx", ".xlsm"}, {".xls", ".xlsb", ".ods"}

Rows = list[tuple[int, list[str]]]


def sheet_rows(path: str | os.PathLike[str]) -> dict[str, Rows]:
    """Sheet -> number and stripped cells of every row that is not blank; sheets without such a row are left out.

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
        sheets = pandas.read_excel(
            path, sheet_name=None, header=None, dtype=str, keep_default_na=False, na_filter=False, engine="openpyxl"
        )
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
        if filled := [(number, cells) for number, cells in rows if any(cells)]:
            found[str(name)] = filled
    return found
