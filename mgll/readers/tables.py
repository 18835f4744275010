"""Tables of other people's data sets, as text (also gzipped) or Excel: rows with their numbers, and no column missing or twice.

Encoding, delimiter, sheet and the row of the header are found where they are not said; what is not as expected is told.
"""

import codecs
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mgll.flags import did_you_mean
from mgll.formats import FormatError, no_file
from mgll.readers.text_tables import DELIMITERS, Cells, likely_delimiter, text_encoding, text_rows
from mgll.readers.workbooks import OTHER_WORKBOOKS, WORKBOOKS, sheet_rows

_TABBED = {".tsv", ".tab"}
_SPELLED = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
Fits = Callable[[Cells], bool]
#: So far down a header is looked for: titles, dates and authors stand above many.
_DEEPEST_HEADER = 40
_SHOWN = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}


@dataclass(frozen=True)
class TableForm:
    """How a table is stored, as far as this is said; None leaves it to be found.

    Attributes:
        delimiter: character between the cells of a text file.
        sheet: name of the sheet of a workbook.
        encoding: encoding of a text file, as Python calls it.
    """

    delimiter: str | None = None
    sheet: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Table:
    """A table that is being read.

    Attributes:
        header: names of the columns; those that were asked for are called as they were.
        rows: number of the last line of each row, and column -> cell without surrounding white space.
        told: sentences about what was found otherwise than a plain table has it.
    """

    header: tuple[str, ...]
    rows: Iterator[tuple[int, dict[str, str]]]
    told: tuple[str, ...] = ()


def read_table(
    path: str | os.PathLike[str], columns: Iterable[str], delimiter: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of `open_table`."""
    yield from open_table(path, columns, TableForm(delimiter)).rows


def open_table(path: str | os.PathLike[str], columns: Iterable[str] = (), form: TableForm | None = None) -> Table:
    """Open a table and find its header: the first row that has all columns, else the first that looks like one.

    Args:
        path: a text file, `.gz` or plain, or an Excel workbook (`.xlsx`).
        columns: columns that the table must have; case, spaces and underscores may differ.
        form: how it is stored.

    Raises:
        FormatError: if the file is missing, not such a table, lacks a column or has one twice, or several sheets could be meant;
            or, while rows are read, for one that is too short or too long.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, no_file(path))
    form, wanted = form or TableForm(), list(dict.fromkeys(columns))
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    if ending in (".zip", ".7z", ".rar"):
        raise FormatError(path, None, "this is an archive; unpack it, and name the table")
    if ending in OTHER_WORKBOOKS:
        raise FormatError(path, None, f"{ending} is not read; save it as .xlsx or as CSV")

    def fits(cells: Cells) -> bool:
        found = {_key(cell) for cell in cells}
        return bool(wanted) and all(_key(name) in found for name in wanted)

    told: list[str] = []
    if ending in WORKBOOKS:
        rows = _sheet(path, form.sheet, fits, told)
    else:
        encoding, guessed = (_known_encoding(form.encoding), "") if form.encoding else text_encoding(path)
        expected = "\t" if ending in _TABBED else ","
        between = form.delimiter or likely_delimiter(path, encoding, expected, fits)
        told += [guessed] if guessed else []
        told += (
            [] if between in (form.delimiter, expected) else [f"cells are separated by {_SHOWN.get(between, between)}"]
        )
        rows = text_rows(path, between, encoding)
    top = list(islice(rows, _DEEPEST_HEADER))
    place = next((place for place, (_, cells) in enumerate(top) if fits(cells)), None)
    if place is None:
        place = 0 if wanted else _like_a_header([cells for _, cells in top])
    number, cells = top[place] if top else (1, [])
    if place:
        told.append(f"the header is in line {number}; {place} filled lines above it are passed over")
    header = _header(path, number, cells, wanted, form.delimiter is None, told)
    return Table(tuple(header), _dicts(path, header, [*top[place + 1 :]], rows), tuple(told))


def parse_delimiter(text: str | None) -> str | None:
    r"""The character between cells as it is typed: itself, or `\t`, `tab`, `comma`, `semicolon`, `pipe`; None stays None.

    Raises:
        ValueError: for anything else.
    """
    if text is None:
        return None
    delimiter = _SPELLED.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"--delimiter: expected one character, such as ; or '\\t', found {text!r}")
    return delimiter


def _key(name: str) -> str:
    """What all spellings of a column's name share."""
    return re.sub(r"[\s_\-]+", " ", name.lower()).strip()


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(
            f"--encoding: no such encoding: {name!r}; usual ones are utf-8, cp1252, cp850, mac_roman"
        ) from None


def _sheet(path: str | os.PathLike[str], name: str | None, fits: Fits, told: list[str]) -> Iterator[tuple[int, Cells]]:
    """The rows of the sheet that is meant: the named one, the only one, or the only one with the columns."""
    merged: list[str] = []
    sheets = sheet_rows(path, merged)
    told += merged
    names = ", ".join(map(repr, sheets))
    if name is not None:
        if name not in sheets:
            raise FormatError(path, None, f"--sheet {name!r}: no such sheet with cells; there are {names or 'none'}")
        return iter(sheets[name])
    meant = [own for own, rows in sheets.items() if any(map(fits, (cells for _, cells in rows[:_DEEPEST_HEADER])))]
    if len(sheets) > 1 and len(meant) != 1:
        which = "several have these columns" if meant else "none has these columns"
        raise FormatError(path, None, f"{len(sheets)} sheets ({names}), {which}; say which is meant: --sheet NAME")
    if len(sheets) > 1:
        told.append(f"of {len(sheets)} sheets ({names}) {meant[0]!r} alone has these columns, and is read")
    return iter(sheets[meant[0]] if meant else next(iter(sheets.values()), []))


def _like_a_header(rows: Sequence[Cells]) -> int:
    """Place of the first row that is filled with words, which a header is and a title is not."""
    if not rows:
        return 0
    words = [sum(any(letter.isalpha() for letter in cell) for cell in cells) for cells in rows]
    filled = [sum(map(bool, cells)) for cells in rows]
    return next((place for place, own in enumerate(words) if own >= max(filled) * 0.7), 0)


def _header(
    path: str | os.PathLike[str], number: int, cells: Cells, wanted: Sequence[str], free: bool, told: list[str]
) -> Cells:
    """The names of the columns, those that are asked for as they are asked for."""
    header = [" ".join(cell.split()) for cell in cells]
    if twice := [name for name, times in Counter(header).items() if name and times > 1]:
        raise FormatError(path, number, f"columns {twice} stand twice in the header; rename or remove one of each")
    for name in wanted:
        places = [place for place, own in enumerate(header) if _key(own) == _key(name)]
        if name not in header and len(places) == 1:
            told.append(f"column {header[places[0]]!r} is taken for {name!r}")
            header[places[0]] = name
    if missing := sorted(set(wanted) - set(header)):
        other = next((d for d in DELIMITERS if len(header) == 1 and d in header[0]), None)
        hint = f"; the cells look separated by {other!r}: add --delimiter {other!r}" if other and not free else ""
        hint = hint or did_you_mean(missing[0], header)
        raise FormatError(path, number, f"columns {missing} are missing, found {header}{hint}")
    return header


def _dicts(
    path: str | os.PathLike[str], header: Cells, top: Sequence[tuple[int, Cells]], rest: Iterator[tuple[int, Cells]]
) -> Iterator[tuple[int, dict[str, str]]]:
    for rows in (top, rest):
        for number, cells in rows:
            while len(cells) > len(header) and not cells[-1]:
                del cells[-1]
            if len(cells) != len(header):
                raise FormatError(
                    path, number, f"expected {len(header)} cells; too many or too few here, found {len(cells)}"
                )
            yield number, dict(zip(header, cells, strict=True))
