"""MIMIC-CXR in PhysioNet's layout with its column names, and the sections of its reports."""

import gzip
import re

import pytest
from PIL import Image

from mgll.manifest.records import read_manifest
from mgll.readers.mimic_cxr import _main
from mgll.readers.report_sections import findings_and_impression

LABELS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with shortness of breath.

 FINDINGS:

 The lungs are clear: no focal
 consolidation.

 IMPRESSION:

 No acute process.
"""


@pytest.fixture
def folder(tmp_path):
    """Two subjects; the second study has no report, its label is uncertain, and there is a lateral view."""
    studies = (("10000032", "50414267", ("aa-1", "aa-2")), ("19999999", "58888888", ("bb-1",)))
    for subject, study, images in studies:
        own = tmp_path / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
        own.mkdir(parents=True)
        for image in images:
            Image.new("L", (4, 4)).save(own / f"{image}.jpg")
    (tmp_path / "files" / "p10" / "p10000032" / "s50414267.txt").write_text(REPORT)
    with gzip.open(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", "wt") as file:
        file.write(f"subject_id,study_id,{LABELS}\n")
        file.write("10000032,50414267,,1.0,0.0,,,,,,,1.0,,-1.0,,\n19999999,58888888,,,,,,,,,,,,-1.0,,\n")
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(
        "dicom_id,study_id,subject_id,split\naa-1,50414267,10000032,train\naa-2,50414267,10000032,train\n"
        "bb-1,58888888,19999999,validate\n"
    )
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text(
        "dicom_id,subject_id,study_id,ViewPosition\naa-1,10000032,50414267,PA\naa-2,10000032,50414267,LATERAL\n"
        "bb-1,19999999,58888888,AP\n"
    )
    return tmp_path


def read(folder, *flags):
    out = folder / "m.jsonl"
    code = _main([str(folder), "--out", str(out), *flags])
    return list(read_manifest(out)) if code == 0 else code


def test_labels_and_report_become_two_levels(folder, capsys):
    first, second, other = read(folder)
    assert first.texts == second.texts
    assert first.texts == {
        "disease": ("Cardiomegaly", "Pleural Effusion"),
        "report": ("The lungs are clear: no focal consolidation.", "No acute process."),
    }
    assert (first.group, first.split, other.split, other.texts) == ("10000032", "train", "val", {})
    assert "kept without a text at level report: 1 images" in capsys.readouterr().out


def test_uncertain_labels_and_views_are_flags(folder):
    first, other = read(folder, "--uncertain", "positive", "--views", "PA,AP")
    assert first.texts["disease"] == ("Cardiomegaly", "Pleural Effusion", "Pneumonia")
    assert other.texts == {"disease": ("Pneumonia",)}


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("split", "validate", "hidden", "line 4: field split: expected train"),
        ("split", "dicom_id", "image_id", "columns \\['dicom_id'\\] are missing"),
    ],
)
def test_a_wrong_table_is_named(folder, capsys, name, old, new, message):
    table = folder / f"mimic-cxr-2.0.0-{name}.csv"
    table.write_text(table.read_text().replace(old, new))
    assert read(folder) == 1
    assert re.search(message, capsys.readouterr().out)


def test_a_label_that_is_no_label_is_named(folder, capsys):
    (folder / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(
        gzip.compress(b"subject_id,study_id,Edema\n10000032,50414267,yes\n")
    )
    assert read(folder) == 1
    assert "line 2: field Edema: expected 1, 0, -1 or nothing, found 'yes'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "sections"),
    [
        ("FINDINGS AND IMPRESSION:  Clear lungs.\n\nNOTIFICATION: called.", ("Clear lungs.",)),
        ("Impression: Old fracture.\n Findings: Rib.\n", ("Rib.", "Old fracture.")),
        ("FINDINGS: Same.\nIMPRESSION: Same.", ("Same.",)),
        (
            "  FINAL REPORT\n INDICATION:  Pain.\n\n Heart size is normal.\n No effusion.\n",
            ("Heart size is normal. No effusion.",),
        ),
        ("INDICATION: Pain.", ()),
        ("", ()),
    ],
)
def test_sections(report, sections):
    assert findings_and_impression(report) == sections
