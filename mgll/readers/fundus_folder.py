"""A folder of fundus photographs with a `labels.csv` of messy labels -> manifest.

Columns: image, dataset, split, group, labels (separated by `;`), grade, text, licence. Labels are mapped by the synonyms of
`mgll.vocabulary`; labels without a synonym are listed, never dropped in silence.

    python -m mgll.readers.fundus_folder FOLDER --out manifest.jsonl
"""

import argparse
import os
from collections import Counter
from pathlib import Path

from mgll.formats import FormatError
from mgll.manifest.records import Record
from mgll.readers.tables import read_table
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.diseases import diseases, synonyms
from mgll.vocabulary.label_texts import describe_labels

COLUMNS = {"image", "dataset", "split", "group", "labels", "grade", "text", "licence"}
GRADED = {"DR", "AMD"}


def read_fundus_folder(folder: str | os.PathLike[str]) -> tuple[list[Record], Counter[str]]:
    """Records with absolute image paths, and the labels that no synonym covers with their counts.

    Raises:
        FormatError: if the CSV is missing or lacks a column, or a row names an unknown split.
    """
    table = Path(folder) / "labels.csv"
    records: list[Record] = []
    unmapped: Counter[str] = Counter()
    for number, row in read_table(table, COLUMNS):
        if row["split"] not in ("train", "val", "test"):
            raise FormatError(table, number, f"field split: expected train, val or test, found {row['split']!r}")
        if labels := _labels(row, unmapped):
            records.append(_record(Path(folder), row, labels))
    return records, unmapped


def _labels(row: dict[str, str], unmapped: Counter[str]) -> list[str]:
    """Class codes of a row's labels. If the row's grade is a grade of one of these diseases, it takes the disease's place."""
    codes: dict[str, None] = {}
    for label in row["labels"].split(";"):
        name = label.strip().lower()
        if name in synonyms():
            codes[synonyms()[name]] = None
        elif name:
            unmapped[name] += 1
    grade = synonyms().get(row["grade"].lower())
    if grade:
        parents = [parent for parent in diseases()[grade].implies if parent in codes and parent in GRADED]
        if parents:
            codes = dict.fromkeys(grade if code in parents else code for code in codes)
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


def _main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mgll.readers.fundus_folder", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--out", required=True, help="manifest to write")
    options = parser.parse_args(arguments)

    def read() -> Found:
        records, unmapped = read_fundus_folder(options.folder)
        hint = "add a synonym to mgll/vocabulary/diseases.csv"
        return records, Counter({f"no class for label {name!r}; {hint}": n for name, n in unmapped.items()})

    return write_found(options.out, read, made_from=str(options.folder))


if __name__ == "__main__":
    raise SystemExit(_main())
