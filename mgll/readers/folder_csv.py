"""Any folder of images with a table (CSV, tab-separated, Excel) -> manifest; flags say what each column means.

A level takes its texts from one column or several, or the names of columns of 1 and 0 (--one-hot). Rows of one image are merged.
A vocabulary (--vocabulary, --synonyms) says what the data set means by its labels. --guess proposes a command, and says why.

    python -m mgll.readers.folder_csv FOLDER --table T.xlsx --guess
    python -m mgll.readers.folder_csv FOLDER --table labels.csv --image file --group patient
        --level disease=finding,grade --level report=impression --separator "disease=;" --out manifest.jsonl
    python -m mgll.readers.folder_csv FOLDER --table RFMiD.csv --image ID --ending .png
        --vocabulary rfmid --one-hot disease --out manifest.jsonl
    python -m mgll.readers.folder_csv ODIR --table annotations.xlsx --group ID --eyes Left,Right --image "{eye}-Fundus"
        --labels "{eye}-Diagnostic Keywords" --separator "labels=，" --vocabulary odir --out manifest.jsonl
"""

import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import Record
from mgll.readers.cells import is_missing
from mgll.readers.columns import EYE, Columns, add_column_arguments, chosen_columns, eye_column
from mgll.readers.folder_images import FolderImages, image_columns, image_made_of
from mgll.readers.guess import guess_command
from mgll.readers.labels import LabelReader
from mgll.readers.tables import TableForm, open_table, parse_delimiter
from mgll.readers.writing import Found, briefly, write_found

#: What becomes of a row whose group is empty.
EmptyGroup = Literal["own", "above", "leave-out"]
#: So many lines of a kind are listed.
_LISTED = 20


@dataclass(frozen=True)
class Layout:
    """Where the images of a table are.

    Attributes:
        image: column of the image's path; or a name made of several columns, each in braces: `{patient}_{side}.jpg`.
        ending: what the table leaves out of the images' names, such as `.png`.
        eyes: what the eyes are called, where a row has a column for each; a name may be several (`("right", "OD")`).
            `{eye}` in the names of columns, and in `ending`, stands for it.
        empty_group: a row without group is a group of its `own`, belongs to the group of the row `above`, or is `leave-out`.
        form: how the table is stored.
    """

    image: str
    ending: str = ""
    eyes: tuple[tuple[str, ...], ...] = ()
    empty_group: EmptyGroup = "own"
    form: TableForm = field(default_factory=TableForm)


@dataclass
class _Reading:
    """What was met so far."""

    images: FolderImages
    records: dict[str, Record] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[int]] = field(default_factory=dict)
    no_group: list[int] = field(default_factory=list)


def read_folder_csv(
    folder: str | os.PathLike[str], table: str | os.PathLike[str], layout: Layout, columns: Columns
) -> Found:
    """Records of the images in `table`, and notes (reason -> number of images).

    Several rows of one image are merged. How the table was read is printed where it is not a plain one.

    Args:
        folder: the folder that image paths are relative to.
        table: the table, see `mgll.readers.tables.open_table`.
        layout: where its images are.
        columns: what the other columns become.

    Raises:
        FormatError: for a table that is missing or wrong; or naming all lines of an unknown split, an image without a name, a bare
            value where words are needed, or an image whose rows disagree about split or group.
        ValueError: for labels that only a vocabulary can decide.
    """
    eyes = layout.eyes or ((),)
    named = image_columns(layout.image)
    opened = open_table(table, [name for name in (*named, *columns.names) if EYE not in name], layout.form)
    for said in opened.told:
        print(f"{table}: {said}")
    by_eye = [
        (eye, eye_column(layout.image, eye, opened.header), columns.of_eye(eye, opened.header))
        if eye
        else ((), layout.image, columns)
        for eye in eyes
    ]
    needed = {name for _, image, own in by_eye for name in (*image_columns(image), *own.names)}
    if missing := sorted(needed - set(opened.header)):
        raise FormatError(table, None, f"columns {missing} are missing, found {list(opened.header)}")
    labels = LabelReader(table=columns.table)
    reading = _Reading(FolderImages(folder))
    group = None
    for number, row in opened.rows:
        if columns.group and is_missing(row[columns.group]):
            reading.no_group.append(number)
            if layout.empty_group == "leave-out":
                continue
            if layout.empty_group == "above" and group is not None:
                row = {**row, columns.group: group}
        elif columns.group:
            group = row[columns.group]
        if layout.image not in opened.header and not eyes[0]:
            row = {**row, layout.image: image_made_of(row, layout.image)}
        _read_row(number, row, by_eye, layout, labels, reading)
    _refuse(table, reading.wrong)
    if reading.no_group:
        _tell_no_group(str(columns.group), reading, layout.empty_group)
    labels.refuse_ambiguous()
    notes = reading.notes + labels.notes()
    records = reading.records.values()
    if records and not any(record.texts or record.labels for record in records):
        chosen = [name for name in columns.names if name not in (columns.group, columns.split, columns.source_column)]
        said = briefly(labels.notes()) or "they are empty in all rows"
        raise FormatError(table, None, f"no image gets a label or a text from {', '.join(chosen)}: {said}")
    if textless := sum(not record.texts for record in reading.records.values()):
        notes["kept without any text"] = textless
    found = [
        record.model_copy(update={"image": str(Path(folder) / record.image)}) for record in reading.records.values()
    ]
    return found, notes


def _read_row(
    number: int,
    row: dict[str, str],
    by_eye: Sequence[tuple[tuple[str, ...], str, Columns]],
    layout: Layout,
    labels: LabelReader,
    reading: _Reading,
) -> None:
    """Add the images of a row; what is wrong with it is kept by its kind."""
    empty = [image for _, image, _ in by_eye if is_missing(row[image])]
    if len(empty) == len(by_eye):
        shown = row[empty[0]] or "empty"
        reading.wrong.setdefault(f"field {empty[0]}: {shown}, not the path of an image", []).append(number)
        return
    for eye, image, columns in by_eye:
        if image in empty:
            reading.notes[f"{image} is empty: the row has no such image"] += 1
            continue
        try:
            ending = layout.ending.replace(EYE, eye[0]) if eye else layout.ending
            name = posixpath.normpath(reading.images.find(row[image] + ending, reading.notes))
            # two eyes of one patient in two splits would be a leak, also where nobody says who it is
            together = f"row of {posixpath.normpath(next(row[one] for _, one, _ in by_eye if one not in empty))}"
            record = columns.record(row, name, labels, reading.notes, together if eye else None)
            known = reading.records.get(record.image)
            reading.records[record.image] = _merged(known, record, reading.notes) if known else record
        except ValueError as error:
            reading.wrong.setdefault(str(error), []).append(number)


def _refuse(table: str | os.PathLike[str], wrong: dict[str, list[int]]) -> None:
    """Stop if rows are wrong, naming all of them at once."""
    if not wrong:
        return
    said, advised = [], {""}
    for message, lines in wrong.items():
        what, _, advice = message.partition("; ")
        others = f" (and in lines {_listed(lines[1:])})" if lines[1:] else ""
        said.append(f"{what if advice in advised else message}{others}")  # what helps several kinds is said once
        advised.add(advice)
    more = [f"line {lines[0]}: {one}" for one, lines in zip(said[1:], list(wrong.values())[1:], strict=True)]
    shown = "; ".join([said[0], *more[: _LISTED - 1]])
    rest = f"; and {len(more) - _LISTED + 1} kinds more" if len(more) >= _LISTED else ""
    raise FormatError(table, next(iter(wrong.values()))[0], shown + rest)


def _tell_no_group(column: str, reading: _Reading, done: EmptyGroup) -> None:
    lines = reading.no_group
    rows = f"{column} is empty in {len(lines)} rows (lines {_listed(lines)})"
    if done == "own":
        print(
            f"{rows}: each is a group of its own, so that one patient may stand in two splits. Fill them in; or --empty-group above"
            " where a patient is named in the first of its rows alone, --empty-group leave-out to read the others only"
        )
    else:
        print(f"{rows}: {'they belong to the group of the row above' if done == 'above' else 'they are left out'}")


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:_LISTED])) + (f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else "")


def _merged(first: Record, second: Record, notes: Counter[str]) -> Record:
    """Merge two rows of one image: texts and labels of both. Rows that differ are counted: more findings, or another grader.

    Raises:
        ValueError: if the rows disagree about split or group.
    """
    if (first.group, first.split) != (second.group, second.split):
        raise ValueError(f"{first.image!r} has another group or split here than in a line above")
    texts = {
        level: tuple(dict.fromkeys([*first.texts.get(level, ()), *second.texts.get(level, ())]))
        for level in dict.fromkeys([*first.texts, *second.texts])
    }
    if (first.texts, first.labels) != (second.texts, second.labels):
        notes["a further row of an image says something else: both are kept"] += 1
    return first.model_copy(update={"texts": texts, "labels": tuple(dict.fromkeys([*first.labels, *second.labels]))})


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m mgll.readers.folder_csv",
        description=__doc__,
    )
    add = parser.add_argument
    add("folder", help="images are relative to it")
    add("--table", required=True, help="CSV, tab-separated (both may be .gz) or .xlsx")
    add("--guess", action="store_true", help="read nothing: propose the command for this table, and say why")
    add(
        "--image",
        metavar="COLUMN",
        help="path of the image; its ending, case and folder may be left out or differ; or a name made of several columns, such as"
        " '{patient}_{side}.jpg'",
    )
    add("--ending", default="", help="what the table leaves out of the images' names, such as .png or _{eye}.png")
    add(
        "--eyes",
        default="",
        metavar="EYE,EYE",
        help="what eyes are called where a row has columns for each, such as Left,Right or OD|right,OS|left; {eye} in the names of"
        " columns stands for it",
    )
    add(
        "--empty-group",
        default="own",
        choices=["own", "above", "leave-out"],
        help="a row whose --group is empty is a group of its own, belongs to the row above (merged cells), or is left out",
    )
    add("--delimiter", help="between cells, such as ; or '\\t' (default: found)")
    add(
        "--encoding",
        help="of a text table, such as cp850 or mac_roman (default: found among UTF-8, UTF-16, Windows-1252)",
    )
    add("--sheet", help="sheet of a workbook (default: the one that has the columns)")
    add("--out", help="manifest to write")
    add_column_arguments(parser)
    return parser


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = _parser()
    options = parser.parse_args(arguments)
    form = TableForm(parse_delimiter(options.delimiter), options.sheet, options.encoding)
    if options.guess:
        print(guess_command(options.folder, options.table, form, options.classes, options.out))
        return 0
    if missing := [f"--{name}" for name in ("image", "out") if getattr(options, name) is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)} (or --guess, which proposes them)")
    columns = chosen_columns(options)
    eyes = tuple(tuple(word.strip() for word in eye.split("|")) for eye in options.eyes.split(",") if eye.strip())

    def read() -> Found:
        if not options.level and not options.one_hot and not options.labels:
            raise ValueError(
                "no --level: name at least one granularity and its columns, as --level disease=finding, or the --labels;"
                " --guess proposes them"
            )
        layout = Layout(options.image, options.ending, eyes, options.empty_group, form)
        return read_folder_csv(options.folder, options.table, layout, columns)

    return write_found(options.out, read, table=columns.table, made_from=str(options.folder))


if __name__ == "__main__":
    raise SystemExit(main())
