"""JSON Lines with a schema version: the form of manifests, cases and predictions.

The first line of a file is its header, `{"schema": "mgll.manifest/1", ...}`; every further line is one record. Records
are frozen pydantic models, so a wrong field is named together with its line.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mgll.files import atomic_path


class Row(BaseModel):
    """Base of every record: immutable, and an unknown field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


#: A longer line is refused before it is read: a line of JSON takes many times its size in memory.
MAX_LINE_BYTES = 10_000_000
RowT = TypeVar("RowT", bound=Row)


class FormatError(ValueError):
    """A file that is not what it should be. The message names file, line and field, and what was found."""

    def __init__(self, path: str | os.PathLike[str], line: int | None, message: str) -> None:
        self.path, self.line = Path(path), line
        super().__init__(f"{path}{f', line {line}' if line else ''}: {message}")


def write_rows(path: str | os.PathLike[str], schema: str, rows: Iterable[Row], **header: Any) -> None:
    """Write a header with `schema` and one line per row, atomically.

    Raises:
        FormatError: if another kind of file is there, such as the table that the rows were read from: it would be lost.
    """
    _refuse_foreign(path)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"schema": schema, **header}, ensure_ascii=False) + "\n")
        for row in rows:
            file.write(row.model_dump_json(exclude_defaults=True) + "\n")


def _refuse_foreign(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        return
    with Path(path).open("rb") as file:
        first = file.readline(MAX_LINE_BYTES)
    try:
        own = not first.strip() or "schema" in json.loads(first)
    except (ValueError, TypeError, RecursionError):
        own = False
    if not own:
        raise FormatError(
            path, None, "is there already and is another kind of file, which is not replaced; name a new one"
        )


def read_header(path: str | os.PathLike[str], schema: str) -> dict[str, Any]:
    """Return the header line.

    Raises:
        FormatError: if the file is empty, not text, or of another schema or version.
    """
    with _open(path) as file:
        return _header(path, next(_lines(path, file), (1, ""))[1], schema)


def numbered_rows(
    path: str | os.PathLike[str], schema: str, row_type: type[RowT], context: dict[str, Any] | None = None
) -> Iterator[tuple[int, RowT]]:
    """Yield the rows of a file with their line numbers, checked one by one in a context.

    Raises:
        FormatError: naming the line and the field of the first wrong row.
    """
    for number, line in numbered_lines(path, schema):
        yield number, parse_row(path, number, line, row_type, context)


def numbered_lines(path: str | os.PathLike[str], schema: str) -> Iterator[tuple[int, str]]:
    """The lines after the header that are not blank, unparsed, each with its number.

    Raises:
        FormatError: at the end, if the header has a `count` and there are not so many: a file cut short is not a smaller one.
    """
    with _open(path) as file:
        lines = _lines(path, file)
        said = _header(path, next(lines, (1, ""))[1], schema).get("count")
        found = 0
        for number, line in lines:
            if not line.isspace():
                found += 1
                yield number, line
    if isinstance(said, int) and said != found:
        raise FormatError(
            path,
            1,
            f"field count: the header says {said} lines, found {found}; the file was cut short or changed: copy or make it again"
            " (if these lines are what is meant, correct the header's count)",
        )


def parse_row(
    path: str | os.PathLike[str], number: int, line: str, row_type: type[RowT], context: dict[str, Any] | None = None
) -> RowT:
    """One checked row, validated in a context; line `number` of `path` is named if it is wrong."""
    try:
        return row_type.model_validate_json(line, context=context)
    except ValidationError as error:
        raise FormatError(path, number, describe_errors(error)) from None


def check_there(*paths: str | os.PathLike[str] | None) -> None:
    """Refuse what is not there, before anything that takes time. None names nothing.

    Raises:
        FormatError: naming the first path that is neither a file nor a folder.
    """
    for path in paths:
        if path is not None and not Path(path).exists():
            raise FormatError(path, None, "no such file")


def no_file(path: str | os.PathLike[str]) -> str:
    """Why a path is no file, in words: a folder is told from what is not there."""
    return "this is a folder; name a file" if Path(path).is_dir() else "no such file"


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    if not Path(path).is_file():
        raise FormatError(path, None, no_file(path))
    return Path(path).open("rb")


def _lines(path: str | os.PathLike[str], file: IO[bytes]) -> Iterator[tuple[int, str]]:
    # Decoded line by line: a text file decodes ahead in blocks, and the error would name an earlier line.
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise FormatError(
                path, number, f"a line of more than {MAX_LINE_BYTES // 1_000_000} MB; is this another kind of file?"
            )
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(path, number, "not UTF-8 text; is this a binary file?") from None


def _header(path: str | os.PathLike[str], line: str, schema: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
        found = header["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if found != schema:
        shown = repr(line.strip()[:80]) if found is None else repr(found)
        raise FormatError(path, 1, f'the first line must be a header with "schema": "{schema}", found {shown}')
    return dict(header)


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a text file.

    Raises:
        FormatError: if it is missing, no plain file, or not UTF-8 text.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, no_file(path))
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(path, None, "not UTF-8 text; is this a binary file?") from None


def one_line(text: object) -> str:
    """The text on one line, with control characters spelled out: it may come from a file or a server, and go to a terminal."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def describe_errors(error: ValidationError) -> str:
    """What is wrong with which fields, the first five in full."""
    parts = []
    for item in error.errors()[:5]:
        field = one_line(".".join(str(step) for step in item["loc"])[:80]) or "the line"
        found = "" if item["type"] == "missing" else f", found {item['input']!r:.80}"
        parts.append(f"field {field}: {item['msg']}{found}")
    if error.error_count() > len(parts):
        parts.append(f"and {error.error_count() - len(parts)} more")
    return "; ".join(parts)
