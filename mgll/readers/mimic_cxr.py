"""MIMIC-CXR-JPG with its CheXpert labels, the reports of MIMIC-CXR and the official split -> manifest.

The folder is laid out as PhysioNet gives it: `mimic-cxr-2.0.0-chexpert.csv`, `-split.csv` (and `-metadata.csv` for `--views`),
gzipped or not, `files/p10/p10000032/s50414267/DICOM_ID.jpg`, and the reports `files/p10/p10000032/s50414267.txt`, which may lie
in a folder of their own. Two levels (Table 12): `disease` names the positive labels, `report` holds findings, impression and
addendum as texts. The names of the labels are those of the vocabulary `mimic`.

    python -m mgll.readers.mimic_cxr FOLDER --reports REPORTS_FOLDER --out manifest.jsonl
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import Record
from mgll.readers.class_tables import add_classes_argument, read_classes
from mgll.readers.labels import LabelReader, add_vocabulary_argument
from mgll.readers.report_sections import findings_and_impression, guessed_findings, report_parts
from mgll.readers.splits import NAMES
from mgll.readers.tables import read_table
from mgll.readers.vocabularies import Vocabulary, read_vocabulary
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.label_texts import DISEASE, REPORT

IDS = {"subject_id", "study_id"}
VALUES = {"1.0": True, "1": True, "-1.0": None, "-1": None, "0.0": False, "0": False, "": False}
Study = tuple[str, str]  # subject, study


def read_mimic_cxr(
    folder: str | os.PathLike[str],
    reports: str | os.PathLike[str] | None = None,
    labeller: str = "chexpert",
    uncertain_is_positive: bool = False,
    views: Collection[str] = (),
    vocabulary: Vocabulary | None = None,
    table: ClassTable = FUNDUS,
) -> Found:
    """Records of all images of the official split, with one group per subject, and notes (reason -> number of images).

    Args:
        folder: folder of MIMIC-CXR-JPG.
        reports: folder of the reports; None looks beside the images.
        labeller: the labeller whose table is read, `chexpert` or `negbio`.
        uncertain_is_positive: also name the uncertain labels (value -1). Otherwise they are left out, as labels that are 0 or blank
            always are.
        views: keep only these values of `ViewPosition`, such as PA and AP; empty keeps all.
        vocabulary: words for the labels; None takes the vocabulary `mimic`, which has their own.
        table: the classes; labels that the vocabulary has as one of them are the image's.

    Raises:
        FormatError: for a table that is missing or wrong.
    """
    folder, notes = Path(folder), Counter[str]()
    labels, met = _labels(_table(folder, labeller)), LabelReader(vocabulary or read_vocabulary(["mimic"], table), table)
    kept = _images_of_views(_table(folder, "metadata"), views) if views else None
    written: dict[Study, tuple[tuple[str, ...], bool]] = {}
    records = []
    split_table = _table(folder, "split")
    for number, row in read_table(split_table, {"dicom_id", "study_id", "subject_id", "split"}):
        if row["split"].lower() not in NAMES:
            raise FormatError(split_table, number, f"field split: expected {', '.join(NAMES)}, found {row['split']!r}")
        if kept is not None and row["dicom_id"] not in kept:
            notes["of another view"] += 1
            continue
        study = row["subject_id"], row["study_id"]
        if study not in written:
            written[study] = _sections(_study_folder(Path(reports or folder), study).with_suffix(".txt"))
        sections, guessed = written[study]
        if guessed:
            notes["no heading begins the findings: the last paragraph without one is taken"] += 1
        named, codes = _named(labels.get(study, {}), uncertain_is_positive, met, notes)
        texts = {level: own for level, own in ((DISEASE, named), (REPORT, sections)) if own}
        for level in {DISEASE, REPORT} - texts.keys():
            notes[f"kept without a text at level {level}"] += 1
        records.append(
            Record(
                image=str(_study_folder(folder, study) / f"{row['dicom_id']}.jpg"),
                split=NAMES[row["split"].lower()],
                group=row["subject_id"],
                texts=texts,
                labels=codes,
                source="MIMIC-CXR",
                licence="PhysioNet Credentialed Health Data License 1.5.0",
            )
        )
    return records, notes + met.notes()


def _table(folder: Path, kind: str) -> Path:
    found = sorted(folder.glob(f"mimic-cxr-*-{kind}.csv*"))
    if not found:
        raise FormatError(folder / f"mimic-cxr-2.0.0-{kind}.csv.gz", None, "no such file; MIMIC-CXR-JPG has it")
    return found[0]


def _labels(table: Path) -> dict[Study, dict[str, bool | None]]:
    """The labels of every study that are 1 (True) or -1 (None)."""
    labels: dict[Study, dict[str, bool | None]] = {}
    for number, row in read_table(table, IDS):
        for name, value in row.items():
            if name not in IDS and value not in VALUES:
                raise FormatError(table, number, f"field {name}: expected 1, 0, -1 or nothing, found {value!r}")
        values = {name: VALUES[value] for name, value in row.items() if name not in IDS}
        labels[row["subject_id"], row["study_id"]] = {n: value for n, value in values.items() if value is not False}
    return labels


def _images_of_views(table: Path, views: Collection[str]) -> set[str]:
    return {
        row["dicom_id"] for _, row in read_table(table, {"dicom_id", "ViewPosition"}) if row["ViewPosition"] in views
    }


def _study_folder(folder: Path, study: Study) -> Path:
    subject, number = study
    return folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{number}"


def _named(
    labels: Mapping[str, bool | None], uncertain_is_positive: bool, met: LabelReader, notes: Counter[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words and class codes for the labels of an image that count as positive."""
    words: dict[str, None] = {}
    codes: dict[str, None] = {}
    for name, value in labels.items():
        if value is None:
            done = "read as positive" if uncertain_is_positive else "left out"
            notes[f"{name} is -1 (uncertain): {done}"] += 1
        if value or uncertain_is_positive:
            meaning = met.meaning(name)
            words |= dict.fromkeys(meaning.words if meaning else (name,))
            codes |= dict.fromkeys(meaning.codes if meaning else ())
    return tuple(words), tuple(codes)


def _sections(report: Path) -> tuple[tuple[str, ...], bool]:
    """The texts of a report, none where there is no report, and whether its findings had to be guessed."""
    if not report.is_file():
        return (), False
    written = report.read_text(encoding="utf-8", errors="replace")
    return findings_and_impression(written), bool(guessed_findings(written, report_parts(written)))


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.mimic_cxr", description=__doc__)
    parser.add_argument("folder", help="folder of MIMIC-CXR-JPG")
    parser.add_argument("--reports", help="folder that holds files/p10/... with the reports (default: the same)")
    parser.add_argument(
        "--labeller", default="chexpert", choices=["chexpert", "negbio"], help="whose labels (default %(default)s)"
    )
    parser.add_argument(
        "--uncertain", default="leave-out", choices=["leave-out", "positive"], help="labels of value -1"
    )
    parser.add_argument("--views", default="", help="keep only these view positions, such as PA,AP")
    parser.add_argument("--out", required=True, help="manifest to write")
    add_vocabulary_argument(parser)
    add_classes_argument(parser)
    options = parser.parse_args(arguments)
    table = read_classes(options.classes)

    def read() -> Found:
        views = [view for view in options.views.split(",") if view]
        uncertain = options.uncertain == "positive"
        vocabulary = read_vocabulary(options.vocabulary or ["mimic"], table)
        return read_mimic_cxr(options.folder, options.reports, options.labeller, uncertain, views, vocabulary, table)

    return write_found(options.out, read, table=table, made_from=options.folder)


if __name__ == "__main__":
    raise SystemExit(main())
