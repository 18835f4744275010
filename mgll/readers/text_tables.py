"""Tables as text, as programs and people save them: which encoding they are in, what stands between the cells, and their rows."""

import codecs
import csv
import gzip
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from mgll.formats import MAX_LINE_BYTES, FormatError

Cells = list[str]
#: What may stand between cells, the likeliest first.
DELIMITERS = (",", ";", "\t", "|")
#: What Western Excel writes where it does not write UTF-8.
FALLBACK = "cp1252"
#: What Chinese Excel writes instead.
CHINESE = "gb18030"
_PIECE = 1_000_000
_HEAD = 65_536


def text_encoding(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The encoding of a text file as Python calls it, and a sentence where it had to be guessed (else nothing).

    A byte order mark says it. Without one it is UTF-8, or UTF-16 where every second byte is zero, or GB18030 where its bytes come
    in pairs as those of Chinese do, or else Windows-1252.

    Raises:
        FormatError: for a file with zero bytes that is not UTF-16: no text.
    """
    with _opened(path) as file, _readable(path, lambda: 1):
        head = file.read(_HEAD)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", ""
        if 0 in head:
            return _without_mark(path, head)
        decoder = codecs.getincrementaldecoder("utf-8")()
        piece = head
        try:
            while piece:
                decoder.decode(piece)
                piece = file.read(_PIECE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            name, called = (CHINESE, "GB18030") if _is_chinese(head) else (FALLBACK, "Windows-1252")
            around = bytes(error.object)[max(error.start - 20, 0) : error.start + 20].decode(name, "replace")
            word = next((word for word in re.findall(r"\w+", around) if not word.isascii()), around.strip())
            return name, f"not UTF-8: read as {called}, such as {word!r} (if letters are wrong: --encoding NAME)"
    return "utf-8-sig", ""


def _is_chinese(head: bytes) -> bool:
    """Whether bytes beyond ASCII come in pairs, most of them of frequent characters; two letters with accents give rare ones."""
    runs = re.findall(rb"[\xa1-\xfe]+", head)
    pairs = [run[at : at + 2] for run in runs if len(run) % 2 == 0 for at in range(0, len(run), 2)]
    frequent = sum(0xB0 <= first <= 0xD7 or first <= 0xA3 for first, _ in pairs)
    return 2 * frequent > len(pairs) and sum(len(run) % 2 == 0 for run in runs) >= 0.9 * len(runs)


def _without_mark(path: str | os.PathLike[str], head: bytes) -> tuple[str, str]:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > len(head) / 8 and not even:
        return "utf-16-le", "read as UTF-16 without a byte order mark"
    if even > len(head) / 8 and not odd:
        return "utf-16-be", "read as UTF-16 without a byte order mark"
    raise FormatError(path, 1, "not a text table (it holds zero bytes); is this a binary file?")


def likely_delimiter(path: str | os.PathLike[str], encoding: str, first: str, fits: Callable[[Cells], bool]) -> str:
    """What stands between the cells of a text file: that by which a row at the top fits, else that which parts most rows alike.

    Args:
        path: the file.
        encoding: its encoding.
        first: what its name says, taken where nothing speaks for another.
        fits: whether a row is the header that is looked for.
    """
    with _opened(path) as file:
        head = file.read(_HEAD).decode(encoding, "replace")
    lines = head.splitlines(keepends=True)[:60]
    if lines and (said := _said_delimiter(lines[0])):
        return said
    rows = {mark: _parted(lines, mark) for mark in dict.fromkeys([first, *DELIMITERS])}
    fitting = [mark for mark, own in rows.items() if any(map(fits, own))]
    return fitting[0] if fitting else max(rows, key=lambda mark: _alike(rows[mark]))


def text_rows(path: str | os.PathLike[str], delimiter: str, encoding: str) -> Iterator[tuple[int, Cells]]:
    """Number of the last line and stripped cells of every row that is not blank.

    Raises:
        FormatError: naming the line that is no such text, or longer than any line of a table.
    """
    with _opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
        with _readable(path, lambda: reader.line_num):
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped) and not (reader.line_num == 1 and _said_delimiter(delimiter.join(cells))):
                    yield reader.line_num, stripped


def _said_delimiter(line: str) -> str | None:
    """What Excel's own first line `sep=;` says."""
    stripped = line.strip("\ufeff\r\n \"'")
    return stripped[4] if stripped.lower().startswith("sep=") and len(stripped) == 5 else None


def _parted(lines: list[str], delimiter: str) -> list[Cells]:
    rows = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            rows.append([cell.strip() for cell in row])
    except csv.Error:
        pass  # what was read so far tells enough
    return [row for row in rows if any(row)]


def _alike(rows: list[Cells]) -> float:
    """How much a delimiter looks like one: the share of rows that it parts into the same number of cells, then the number."""
    sizes = Counter(len(row) for row in rows if len(row) > 1)
    if not sizes:
        return 0.0
    size, times = sizes.most_common(1)[0]
    return times / len(rows) + size / 10_000


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    return gzip.open(path, "rb") if str(path).lower().endswith(".gz") else Path(path).open("rb")  # type: ignore[return-value]


@contextmanager
def _readable(path: str | os.PathLike[str], line: Callable[[], int]) -> Iterator[None]:
    """Whatever a damaged file raises is said of its line."""
    try:
        yield
    except UnicodeDecodeError as error:
        wrong = f"not {error.encoding} text ({error.reason}); save it as UTF-8, or say --encoding NAME (cp850, mac_roman, ...)"
        raise FormatError(path, line() + 1, wrong) from None
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        raise FormatError(path, line(), f"not a readable table ({error})") from None


def _lines(text: TextIO) -> Iterator[str]:
    """The lines of a text, of which none may fill the memory: a gzipped file can hold one of gigabytes."""
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise csv.Error(f"a line of more than {MAX_LINE_BYTES // 1_000_000} MB")
        yield line
