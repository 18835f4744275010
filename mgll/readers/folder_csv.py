"""Any folder of images with a table (CSV, tab-separated, Excel) -> manifest; flags say what each column means.

A level takes its texts from one column or several, or the names of columns of 1 and 0 (--one-hot). Rows of one image are merged.
A vocabulary (--vocabulary) says what the data set means by its labels.

    python -m mgll.readers.folder_csv FOLDER --table labels.csv --image file --group patient
        --level disease=finding,grade --level report=impression --separator "disease=;" --out manifest.jsonl
    python -m mgll.readers.folder_csv FOLDER --table RFMiD.csv --image ID --ending .png
        --vocabulary rfmid --one-hot disease --out manifest.jsonl
"""

import os
import posixpath
from collections import Counter
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import Record
from mgll.readers.cells import is_missing
from mgll.readers.columns import Columns, add_column_arguments, chosen_columns
from mgll.readers.labels import LabelReader
from mgll.readers.tables import parse_delimiter, read_table
from mgll.readers.writing import Found, write_found


def read_folder_csv(
    folder: str | os.PathLike[str],
    table: str | os.PathLike[str],
    image: str,
    columns: Columns,
    delimiter: str | None = None,
    ending: str = "",
) -> Found:
    """Records of the images in `table`, and notes (reason -> number of images).

    Several rows of one image are merged.

    Args:
        folder: the folder that image paths are relative to.
        table: the table, see `mgll.readers.tables.read_table`.
        image: column of the image's path.
        columns: what the other columns become.
        delimiter: character between the cells of a text file; None goes by the file's ending.
        ending: what the table leaves out of the images' names, such as `.png`.

    Raises:
        FormatError: for a table that is missing or wrong; or naming the line of an unknown split, a missing image, a bare value
            where words are needed, or an image whose rows disagree about split or group.
        ValueError: for labels that only a vocabulary can decide.
    """
    records: dict[str, Record] = {}
    notes: Counter[str] = Counter()
    labels = LabelReader()
    for number, row in read_table(table, [image, *columns.names], delimiter):
        if is_missing(row[image]):
            raise FormatError(table, number, f"field {image}: {row[image] or 'empty'}, not the path of an image")
        try:
            record = columns.record(row, posixpath.normpath(row[image] + ending), labels, notes)
            known = records.get(record.image)
            records[record.image] = _merged(known, record, notes) if known else record
        except ValueError as error:
            raise FormatError(table, number, str(error)) from None
    labels.refuse_ambiguous()
    notes += labels.notes()
    if textless := sum(not record.texts for record in records.values()):
        notes["kept without any text"] = textless
    return [record.model_copy(update={"image": str(Path(folder) / record.image)}) for record in records.values()], notes


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


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(
        prog="python -m mgll.readers.folder_csv",
        description=__doc__,
    )
    parser.add_argument("folder", help="images are relative to it")
    parser.add_argument("--table", required=True, help="CSV, tab-separated (both may be .gz) or .xlsx")
    parser.add_argument("--image", required=True, metavar="COLUMN", help="path of the image")
    parser.add_argument("--ending", default="", help="what the table leaves out of the images' names, such as .png")
    parser.add_argument("--delimiter", help="between cells, such as ; or '\\t' (default: a tab for .tsv, else a comma)")
    parser.add_argument("--out", required=True, help="manifest to write")
    add_column_arguments(parser)
    options = parser.parse_args(arguments)

    def read() -> Found:
        if not options.level and not options.one_hot:
            raise ValueError("no --level: name at least one granularity and its columns, as --level disease=finding")
        columns, delimiter = chosen_columns(options), parse_delimiter(options.delimiter)
        return read_folder_csv(options.folder, options.table, options.image, columns, delimiter, options.ending)

    return write_found(options.out, read, made_from=str(options.folder))


if __name__ == "__main__":
    raise SystemExit(_main())
