"""The manifest: one image per line with its split, its group and its texts by granularity.

`python -m mgll.manifest validate FILE` checks one; `python -m mgll.manifest describe FILE` counts what is in it.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from pydantic import Field, field_validator

from mgll.formats import FormatError, numbered_lines, parse_row, write_rows
from mgll.manifest.classed_row import CONTEXT, ClassedRow, classed_header, context_of
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

SCHEMA = "mgll.manifest/1"
Split = Literal["train", "val", "test"]
#: How the name of a group begins that `mgll.manifest.grouping` merged: one patient in whatever data set it stands.
MERGED = "merged:"


class Record(ClassedRow):
    """One image.

    Attributes:
        image: path of the image, relative to the manifest's folder (or absolute).
        split: `train`, `val` or `test`. A group of a source never spans two splits.
        group: patient or eye, named within `source`; confidence intervals are clustered by it.
        texts: granularity level -> texts, e.g. `{"disease": ["abnormal", "drusen"], "explanation": [...]}`. A level may be
            missing and may hold several texts.
        labels: class codes of its `table` that hold for the image (empty where unknown).
        source: data set the image comes from.
        licence: licence of the image as its source states it.
    """

    image: str = Field(min_length=1)
    split: Split
    group: str = Field(min_length=1)
    texts: dict[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""

    @field_validator("texts")
    @classmethod
    def _no_blank_text(cls, texts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for level, entries in texts.items():
            if not level.strip():
                raise ValueError("a level has an empty name")
            if any(not entry.strip() for entry in entries):
                raise ValueError(f"level {level!r} holds an empty text")
        return texts

    @property
    def caption(self) -> str:
        """All texts joined, level by level: what a CLIP baseline sees, so that it reads the same words as MGLL."""
        return ", ".join(text for texts in self.texts.values() for text in texts)

    @property
    def patient(self) -> tuple[str, str]:
        """Who is seen, over all data sets: see `patient_of`."""
        return patient_of(self.source, self.group)


def patient_of(source: str, group: str) -> tuple[str, str]:
    """Source and name of a group: patient 1 of one data set is not patient 1 of another. A merged group has no source."""
    return ("" if group.startswith(MERGED) else source, group)


class Records(Sequence[Record]):
    """The records of a manifest as the bytes of their lines; a record is parsed when it is accessed.

    Hundreds of thousands of Python objects would be copied page by page into every worker process that touches them, because
    every access changes a reference count. One block of bytes and one array stay shared.
    """

    def __init__(self, lines: bytes, bounds: np.ndarray, folder: str, context: dict[str, Any] | None = None) -> None:
        """Keep the lines of the records and the places where they lie.

        Args:
            lines: the concatenated lines.
            bounds: first and last-plus-one byte of each line [N, 2].
            folder: the folder that image paths are relative to.
            context: in what the records are validated, see `context_of`.
        """
        self._lines, self._bounds, self._folder, self._context = lines, bounds, folder, context

    @property
    def table(self) -> ClassTable:
        """The table of the class codes."""
        return self._context[CONTEXT] if self._context else FUNDUS

    def __len__(self) -> int:
        return len(self._bounds)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, slice):
            return Records(self._lines, self._bounds[index], self._folder, self._context)
        start, end = self._bounds[index]
        record = Record.model_validate_json(self._lines[start:end], context=self._context)
        image = os.path.join(self._folder, record.image)  # noqa: PTH118 (a Path costs as much as parsing the line)
        return record.model_copy(update={"image": image})


def write_manifest(path: str | os.PathLike[str], records: Iterable[Record], **header: object) -> None:
    """Write a manifest atomically; `header` entries go to its first line, and the records' class table if it is another one."""
    records, header = classed_header(records, header)
    write_rows(path, SCHEMA, records, **header)


def read_manifest(path: str | os.PathLike[str], split: Split | None = None) -> Records:
    """Read a manifest and check every line; image paths come back resolved against the manifest's folder.

    Raises:
        FormatError: naming line and field, or the group that spans two splits, or the split that is empty.
    """
    lines: list[bytes] = []
    split_of: dict[tuple[str, str], str] = {}
    context = context_of(path, SCHEMA)
    for number, line in numbered_lines(path, SCHEMA):
        record = parse_row(path, number, line, Record, context)
        first = split_of.setdefault(record.patient, record.split)
        if first != record.split:
            raise FormatError(
                path, number, f"field group: {record.group!r} is in split {record.split!r} here and in {first!r} above"
            )
        if split is None or record.split == split:
            lines.append(line.encode())
    if not lines:
        raise FormatError(path, None, f"no image in split {split!r}" if split else "no image")
    ends = np.cumsum([len(line) for line in lines])
    return Records(b"".join(lines), np.stack([np.append(0, ends[:-1]), ends], axis=1), str(Path(path).parent), context)


def stored_under(record: Record, folder: Path) -> Record:
    """The record with its image as a manifest in `folder` (absolute) names it: relative under that folder, absolute elsewhere."""
    image = Path(record.image).absolute()
    name = image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)
    return record.model_copy(update={"image": name})


def levels(records: Iterable[Record]) -> tuple[str, ...]:
    """Names of the granularity levels, in order of first appearance."""
    return tuple(dict.fromkeys(level for record in records for level in record.texts))
