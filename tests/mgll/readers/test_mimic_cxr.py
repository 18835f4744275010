"""MIMIC-CXR in PhysioNet's layout with its column names, and the sections of its reports."""

import gzip
import re

import pytest
from PIL import Image

from mgll.manifest.records import read_manifest
from mgll.readers.mimic_cxr import main
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
    code = main([str(folder), "--out", str(out), *flags])
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


def test_what_was_read_and_guessed_is_said(folder, capsys):
    (folder / "files" / "p19" / "p19999999" / "s58888888.txt").write_text(
        "EXAM: Chest.\n\nClear.\n\nIMPRESSION: Normal."
    )
    assert read(folder)[2].texts == {"report": ("Clear.", "Normal.")}
    out = capsys.readouterr().out
    assert "no heading begins the findings: the last paragraph without one is taken: 1 images" in out
    assert "'Pleural Effusion' read as 'Pleural Effusion' (no class): 2 images" in out
    assert "Pneumonia is -1 (uncertain): left out: 3 images" in out
    (folder / "v.csv").write_text("label,class,words\nCardiomegaly,,Enlarged heart\n")
    first = read(folder, "--vocabulary", str(folder / "v.csv"))[0]
    assert first.texts["disease"] == ("Enlarged heart", "Pleural Effusion")


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
    assert re.search(message, "".join(capsys.readouterr()))


def test_a_label_that_is_no_label_is_named(folder, capsys):
    (folder / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(
        gzip.compress(b"subject_id,study_id,Edema\n10000032,50414267,yes\n")
    )
    assert read(folder) == 1
    assert "line 2: field Edema: expected 1, 0, -1 or nothing, found 'yes'" in "".join(capsys.readouterr())


VIEWS = "PA AND LATERAL VIEWS OF THE CHEST:"


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
        # Headings within the findings keep their words.
        (
            "FINDINGS:\n\n PA AND LATERAL VIEWS OF THE CHEST:  Clear.\n HEART: Normal.",
            (f"{VIEWS} Clear. HEART: Normal.",),
        ),
        ("PA AND LATERAL VIEWS OF THE CHEST:  Clear.\n\nIMPRESSION: Normal.", (f"{VIEWS} Clear.", "Normal.")),
        (
            "HISTORY: Pain.\nLUNGS: Clear.\n HEART: Big.\nIMPRESSION: Big heart.",
            ("LUNGS: Clear. HEART: Big.", "Big heart."),
        ),
        ("COMPARISON: None.\n\nFRONTAL VIEW: Clear.\n", ("FRONTAL VIEW: Clear.",)),
        ("STUDY: Chest.\n\nCHEST, TWO VIEWS: Clear.\n", ("CHEST, TWO VIEWS: Clear.",)),
        ("IMPRESSION:\n AP CHEST COMPARED TO ___:  Edema worse.", ("AP CHEST COMPARED TO ___: Edema worse.",)),
        # The impression of somebody else, or of an earlier reading, is not the report's.
        (
            "CLINICAL IMPRESSION: rule out pneumonia\nFINDINGS: Clear.\nIMPRESSION: No pneumonia.",
            ("Clear.", "No pneumonia."),
        ),
        ("CLINICAL IMPRESSION: rule out pneumonia\n\n Clear lungs.\n", ("Clear lungs.",)),
        ("Clinical impression: rule out pneumonia\nFindings: Clear.", ("Clear.",)),
        ("WET READ: ___ 8:15 AM\n Nothing.\n____\n FINAL REPORT\n FINDINGS: Nodule.\n", ("Nodule.",)),
        ("PRELIMINARY IMPRESSION: Nothing.\nIMPRESSION: Nodule.", ("Nodule.",)),
        # Addenda, however they are announced, and what stands twice.
        ("FINDINGS: a.\nIMPRESSION: b.\nADDENDUM: c.", ("a.", "b.", "c.")),
        ("IMPRESSION: b.\n\n   ADDENDUM  The nodule is 5 mm.\n", ("b.", "The nodule is 5 mm.")),
        ("FINAL ADDENDUM\n ADDENDUM: other side.\n FINAL REPORT\n IMPRESSION: b.", ("b.", "other side.")),
        ("IMPRESSION: one.\nNOTIFICATION: called.\nIMPRESSION: two.", ("one. two.",)),
        # Headings of other forms.
        ("FINDINGS: Clear. IMPRESSION: Normal.", ("Clear.", "Normal.")),
        ("FINDINGS: THE LUNGS ARE CLEAR. IMPRESSION: NORMAL.", ("THE LUNGS ARE CLEAR.", "NORMAL.")),
        ("FINDINGS\nClear.\n\nIMPRESSION\nNormal.", ("Clear.", "Normal.")),
        ("AP CHEST, 3:14 A.M., ___\n\nIMPRESSION: Seen at 3:15 PM.", ("Seen at 3:15 PM.",)),
        ("IMPRESSION AND RECOMMENDATION: Follow up.\nRECOMMENDATION(S): CT.", ("Follow up.",)),
        ("REASON FOR THIS EXAMINATION: infiltrate?\nTYPE OF EXAMINATION: PA\nFINDINGS: Clear.", ("Clear.",)),
        ("Technique: PA.\nFindings: Clear.\nNotification: called.", ("Clear.",)),
        ("Findings/Impression: Clear.\nRecommendation: none", ("Clear.",)),
        ("FINDINGS:2 nodules.\nIMPRESSION:1. Nodules.", ("2 nodules.", "1. Nodules.")),
        ("FINAL REPORT\nTITLE\n\nREPORT: Clear.", ("REPORT: Clear.",)),
        ("PROVISIONAL FINDINGS IMPRESSION (PFI): Clear.\nFINDINGS: Nodule.", ("Nodule.",)),
        # Findings without a heading, beside an impression with one.
        ("EXAM: Chest.\n\nThe lungs are clear.\n\nIMPRESSION: Normal.", ("The lungs are clear.", "Normal.")),
        ("INDICATION:\n\n ___F with pain.\n\n IMPRESSION: Normal.", ("Normal.",)),
        ("PORTABLE CHEST\n\nIMPRESSION: Normal.", ("Normal.",)),
        ("THE LUNGS ARE CLEAR.", ("THE LUNGS ARE CLEAR.",)),
    ],
)
def test_sections(report, sections):
    assert findings_and_impression(report) == sections
