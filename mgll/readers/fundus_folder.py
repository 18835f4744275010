"""A folder of fundus photographs with a `labels.csv` of messy labels -> manifest.

Columns: image, dataset, split, group, labels (separated by `;`), grade, text, licence. Labels are read by a vocabulary, else by the
names of `mgll.vocabulary`; what was read as what is listed, and labels without a class are never dropped in silence. A grade counts
beside the disease that it grades.

    python -m mgll.readers.fundus_folder FOLDER --out manifest.jsonl
"""

import os
from collections import Counter
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import Record
from mgll.readers.cells import is_missing
from mgll.readers.labels import LabelReader, add_vocabulary_argument
from mgll.readers.tables import read_table
from mgll.readers.vocabularies import read_vocabulary
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.diseases import diseases, synonyms
from mgll.vocabulary.label_texts import describe_labels

COLUMNS = {"image", "dataset", "split", "group", "labels", "grade", "text", "licence"}
#: Disease -> what its grades and kinds are called beside their full names.
GRADES = {
    "DR": {"mild": "Mild NPDR", "moderate": "Moderate NPDR", "severe": "Severe NPDR", "proliferative": "PDR"},
    "AMD": {"dry": "Dry AMD", "wet": "Wet AMD"},
}


def read_fundus_folder(
    folder: str | os.PathLike[str], labels: LabelReader | None = None, notes: Counter[str] | None = None
) -> tuple[list[Record], Counter[str]]:
    """Records with absolute image paths, and the labels that nothing covers with their counts.

    Args:
        folder: the folder that holds `labels.csv`.
        labels: reads the labels, and counts them; None takes one without a vocabulary.
        notes: counts what was guessed or left out.

    Raises:
        FormatError: if the CSV is missing or lacks a column, or a row names an unknown split.
        ValueError: for labels that only a vocabulary can decide.
    """
    table = Path(folder) / "labels.csv"
    labels = LabelReader() if labels is None else labels
    notes = Counter() if notes is None else notes
    records: list[Record] = []
    for number, row in read_table(table, COLUMNS):
        if row["split"] not in ("train", "val", "test"):
            raise FormatError(table, number, f"field split: expected train, val or test, found {row['split']!r}")
        try:
            codes = _codes(row, labels, notes)
        except ValueError as error:
            raise FormatError(table, number, str(error)) from None
        if not codes:
            notes["left out: no label that has a class"] += 1
            continue
        if is_missing(row["group"]):
            row["group"] = row["image"]
            notes["group is missing: a group of its own, though some may show one patient"] += 1
        records.append(_record(Path(folder), row, codes))
    labels.refuse_ambiguous()
    return records, labels.unknown


def _codes(row: dict[str, str], met: LabelReader, notes: Counter[str]) -> list[str]:
    """Class codes of a row's labels. If the row's grade is a grade of one of these diseases, it takes the disease's place."""
    labels = LabelReader(met.vocabulary)
    codes = dict.fromkeys(code for label in row["labels"].split(";") for code in labels.codes(label.strip(), "labels"))
    met.add_image(labels)
    grade = row["grade"].lower()
    for disease in GRADES.keys() & codes.keys():
        graded = GRADES[disease].get(grade) or synonyms().get(grade)
        if graded and disease in diseases()[graded].implies:
            codes = dict.fromkeys(graded if code == disease else code for code in codes)
            met.mapped[f"grade {row['grade']!r} of {disease} read as class {graded}"] += 1
        elif not is_missing(grade):
            notes[f"grade {row['grade']!r} is none of {disease}: read as {disease} without a grade"] += 1
    if "without maculopathy" in row["text"].lower():
        codes["No DME"] = None
    return list(codes)


def _record(folder: Path, row: dict[str, str], labels: list[str]) -> Record:
    # A text that only repeats the label ("moderate non proliferative retinopathy") adds nothing to the disease level;
    # a sentence about this very image is an explanation of its own.
    own_words = [row["text"]] if len(row["text"].split()) > 8 else []
    return Record(
        image=str((folder / row["image"]).resolve()),
        split=row["split"],  # type: ignore[arg-type]  # checked by the caller, and again by pydantic
        group=row["group"],
        texts=describe_labels(labels, own_words),
        labels=tuple(labels),
        source=row["dataset"],
        licence=row["licence"],
    )


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.fundus_folder", description=__doc__)
    parser.add_argument("folder", help="holds labels.csv and the images that it names")
    parser.add_argument("--out", required=True, help="manifest to write")
    add_vocabulary_argument(parser)
    options = parser.parse_args(arguments)

    def read() -> Found:
        labels, notes = LabelReader(read_vocabulary(options.vocabulary)), Counter[str]()
        records, _ = read_fundus_folder(options.folder, labels, notes)
        return records, notes + labels.notes()

    return write_found(options.out, read, made_from=str(options.folder))


if __name__ == "__main__":
    raise SystemExit(main())
