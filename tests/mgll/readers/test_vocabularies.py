"""The vocabularies that are shipped, and files of the user."""

import csv
from importlib.resources import files

import pytest

from mgll.readers.vocabularies import SHIPPED, Meaning, read_vocabulary
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.labels import ambiguous_labels, class_named, class_names, label_key

COLUMNS = {
    "rfmid": "Disease_Risk DR ARMD MH DN MYA BRVO TSLN ERM LS MS CSR ODC CRVO TV AH ODP ODE ST AION PT RT RS CRS EDN"
    " RPEC MHL RP CWS CB"
    " ODPM PRH MNF HR CRAO TD CME PTCR CF VH MCA VS BRAO PLQ HPED CL",
    "odir": "N D G C A H M O",
    "chestxray14": "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema"
    " Emphysema Fibrosis"
    " Pleural_Thickening Hernia",
}
CHEXPERT = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_of_a_data_set_is_in_its_vocabulary(name):
    vocabulary = read_vocabulary([name])
    assert all(vocabulary.names_column(column) for column in COLUMNS[name].split())


@pytest.mark.parametrize("name", ["chexpert", "mimic"])
def test_the_labels_of_chexpert_keep_their_words(name):
    assert all(read_vocabulary([name]).meaning(label) == Meaning((), (label,)) for label in CHEXPERT.split(","))


def test_jsiec_has_its_39_folders_with_and_without_number():
    vocabulary = read_vocabulary(["jsiec"])
    assert len(vocabulary.meanings) == 2 * 39
    assert vocabulary.meaning("8.MH") == vocabulary.meaning("MH") == Meaning(("Macular Hole",), ("Macular Hole",))


def test_one_abbreviation_means_what_its_data_set_means():
    assert [read_vocabulary([name]).meaning("HR").codes for name in ("rfmid", "mgll")] == [
        ("Hemorrhagic Retinopathy",),
        ("HR",),
    ]
    assert [read_vocabulary([name]).meaning("MH").codes for name in ("rfmid", "jsiec")] == [("MH",), ("Macular Hole",)]
    assert read_vocabulary(["icdr"]).meaning("No DR").codes == ("No DR",)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "mgll"])
def test_a_shipped_vocabulary_says_each_label_once(name):
    with (files("mgll.vocabulary") / "data_sets" / f"{name}.csv").open(encoding="utf-8") as file:
        rows = [(row.get("column", ""), label_key(row["label"])) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))


def test_labels_compare_without_regard_to_spelling():
    assert label_key(" Pleural_Thickening") == label_key("pleural  thickening")
    assert class_names()[label_key("Optic disc oedema")] == "ODE"
    assert class_names()[label_key("age related macular degeneration")] == "AMD"
    for spelled in ("o.B.", "O. B.", "oB", "ohne Befund", "NAD"):
        assert class_named(spelled) == "Health"
    assert [class_named(label) for label in ("POAG", "ARMD", "Primary open angle glaucoma")] == [
        "Glaucoma",
        "AMD",
        "Glaucoma",
    ]
    assert class_named("OB/GYN") is None


def test_what_clinics_write_names_one_class_that_no_other_name_and_no_ambiguity_takes():
    with (files("mgll.vocabulary") / "synonyms.csv").open(encoding="utf-8") as file:
        rows = [(label_key(label), row["class"]) for row in csv.DictReader(file) for label in row["labels"].split(";")]
    named = {label_key(name): own.code for own in diseases().values() for name in own.synonyms}
    assert {code for _, code in rows} <= diseases().keys()
    assert [(label, code) for label, code in rows if class_names()[label] != code or label in ambiguous_labels()] == []
    assert {label: class_names()[label] for label in named} == named


def test_the_table_of_ambiguous_labels_is_sound():
    assert all(set(one.may_mean) <= diseases().keys() and one.because for one in ambiguous_labels().values())
    for label in ("mild", "moderate", "severe", "dry", "wet"):
        assert label in ambiguous_labels()
        assert label not in class_names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,code\nDR,DR\n", "columns \\['class'\\] are missing"),
        ("label,class\nDR,Diabetes\n", "line 2: field class: no such class code: Diabetes"),
        ("label,class\n,DR\n", "line 2: field label: empty"),
        ("label,class\nHR,HR\nhr,DR\n", "'hr' means .*Diabetic Retinopathy.* but .*Hypertensive"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vocabulary([str(tmp_path / "v.csv")])


def test_two_vocabularies_that_disagree_are_refused():
    with pytest.raises(ValueError, match="--vocabulary jsiec: 'mh' means 'Macular Hole'"):
        read_vocabulary(["rfmid", "jsiec"])
