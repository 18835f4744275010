"""Labels: the disease table, what implies what, the texts, and the reader of the real photographs."""

import csv
import re
from collections import Counter
from importlib.resources import files

import pytest

from mgll.evaluation.classes import classes_of
from mgll.formats import FormatError
from mgll.manifest.records import read_manifest, write_manifest
from mgll.readers.fundus_folder import COLUMNS, read_fundus_folder
from mgll.readers.labels import LabelReader
from mgll.readers.vocabularies import read_vocabulary
from mgll.synthetic import generate
from mgll.vocabulary.diseases import (
    NEGATIVE_OF,
    benchmark_classes,
    diseases,
    overlaps,
    possible_codes,
    synonyms,
    true_codes,
)
from mgll.vocabulary.label_texts import describe_labels


def test_the_table_holds_table_14():
    classes = benchmark_classes()
    assert len(classes) == 25
    assert sum(disease.cases for disease in classes) == 2233
    assert {code for disease in diseases().values() for code in disease.implies} <= diseases().keys()
    assert all(disease.explanation and disease.name for disease in diseases().values())


TABLE_10 = """Mild Non-Proliferative Diabetic Retinopathy; Moderate Non-Proliferative Diabetic Retinopathy;
Severe Non-Proliferative Diabetic Retinopathy; Proliferative Diabetic Retinopathy; Cataract; Myopia; Media Haze;
Branch Retinal Vein Occlusion; Tessellation; Laser Scars; Central Serous Retinopathy; Optic Disk Cupping;
Central Retinal Vein Occlusion; Tortuous Vessels; Asteroid Hyalosis; Optic Disc Pallor; Optic Disc Edema; Optociliary Shunt;
Anterior Ischemic Optic Neuropathy; Parafoveal Telangiectasia; Retinal Traction; Retinitis; Chorioretinitis; Macular Hole;
Retinitis Pigmentosa; Cotton Wool Spots; Coloboma; Preretinal Hemorrhage; Myelinated Nerve Fibers; Hemorrhagic Retinopathy;
Central Retinal Artery Occlusion; Tilted Disk; Cystoid Macular Edema; Post-traumatic Choroidal Rupture; Choroidal Folds;
Vitreous Hemorrhage; Macroaneurysm; Vasculitis; Healthy"""


def test_the_table_holds_table_10():
    names = [" ".join(name.split()) for name in TABLE_10.split(";")]
    assert len(names) == 39
    codes = [synonyms()[name.lower()] for name in names]
    assert len({diseases()[code].explanation for code in codes}) == 39
    assert diseases()[codes[names.index("Tessellation")]].explanation.startswith("The choroidal vessels are visible")
    assert "branch retinal vein" in diseases()["BRVO"].explanation


def test_no_synonym_names_two_diseases():
    names = [name for disease in diseases().values() for name in disease.synonyms]
    assert len(names) == len(set(names)) == len(synonyms())


@pytest.mark.parametrize(
    ("labels", "true", "false"),
    [
        (["Health"], {"Health", "No AMD", "No DME", "No Glaucoma"}, {"DR"}),
        (["Severe NPDR", "DME"], {"DR", "DME", "No AMD", "No Glaucoma"}, {"No DME", "Health"}),
        (["Wet AMD"], {"AMD", "CN", "No DME"}, {"No AMD"}),
        (["Glaucoma"], {"ODC"}, {"No Glaucoma"}),
    ],
)
def test_what_holds_for_an_image(labels, true, false):
    assert true <= true_codes(labels)
    assert not false & true_codes(labels)


@pytest.mark.parametrize(
    ("labels", "possible", "impossible"),
    [
        (["Myopia"], {"Tessellation", "CN"}, {"Health", "DR"}),
        (["Health"], {"No AMD", "No DME", "No Glaucoma"}, {"Tessellation", "Drusen", "AMD", "Other"}),
        (["No AMD"], {"Health", "No DME", "No Glaucoma"}, {"AMD", "Dry AMD", "CN", "Drusen"}),
        (["No AMD", "DR"], {"DME"}, {"Health"}),
        (["No Glaucoma"], {"Health", "No AMD"}, {"Glaucoma", "ODC"}),
        (["DR"], {"Mild NPDR", "PDR", "DME", "CME", "Cotton Wool Spots", "Hemorrhagic Retinopathy"}, {"HR", "BRVO"}),
        (["Moderate NPDR"], {"DR", "Mild NPDR", "Severe NPDR"}, {"PDR", "Preretinal Hemorrhage"}),
        (["DR", "PDR"], {"Severe NPDR", "Vitreous Hemorrhage"}, {"Mild NPDR", "Moderate NPDR"}),
        (["DR", "No DME"], {"No DME", "PDR"}, {"DME"}),
        (["No DME"], {"Health", "DR"}, {"DME"}),
        (["DME"], {"DR", "CME", "Maculopathy"}, {"No DME"}),
        (["Drusen"], {"AMD", "Dry AMD", "No AMD", "Maculopathy"}, {"Health", "CSR"}),
        (["AMD"], {"Drusen", "Wet AMD", "CN"}, {"No AMD"}),
        (["Dry AMD"], {"Drusen"}, {"Wet AMD", "CN", "No AMD"}),
        (["CN"], {"AMD", "Wet AMD", "Myopia"}, {"Dry AMD"}),
        (["ODC"], {"Glaucoma"}, {"ODE"}),
        (["Glaucoma"], {"ODC"}, {"No Glaucoma", "Health"}),
        (["HR"], {"AR", "Cotton Wool Spots", "Hemorrhagic Retinopathy", "ODE"}, {"DR", "CRVO"}),
        (["BRVO"], {"Hemorrhagic Retinopathy", "CME"}, {"CRVO", "HR"}),
        (["Cotton Wool Spots"], {"DR", "HR", "BRVO", "CRVO", "Other"}, {"Mild NPDR", "Drusen"}),
        (["Retinitis"], {"Chorioretinitis", "MH"}, {"DR"}),
        (["Cataract"], {"MH"}, {"Vitreous Hemorrhage", "VD"}),
        (["MH"], {"Cataract", "VD", "Vitreous Hemorrhage"}, {"Health"}),
        (["ERM"], {"Other"}, {"DR"}),
        (["Other"], {"ERM", "Vasculitis"}, {"DR", "Moderate NPDR"}),
    ],
)
def test_what_may_hold_for_an_image(labels, possible, impossible):
    assert possible <= possible_codes(labels)
    assert not impossible & possible_codes(labels)


def test_the_table_of_overlaps_is_sound():
    assert overlaps().keys() == diseases().keys()  # and no code in it is unknown
    for code, others in overlaps().items():
        assert code not in others
        assert all(code in overlaps()[other] for other in others)
        # Health overlaps with nothing, and a disease never with its own negative.
        assert "Health" not in others
        assert NEGATIVE_OF.get(code) not in others
        assert true_codes([code]) <= possible_codes([code])
        # A pair that `implies` covers already is not said twice.
        assert not {other for other in others if other in diseases()[code].implies}
    with (files("mgll.vocabulary") / "disease_overlaps.csv").open(encoding="utf-8") as file:
        assert all(row["because"].strip() for row in csv.DictReader(file))


def test_texts_at_two_granularities():
    texts = describe_labels(["Moderate NPDR", "DME"], ["Exudates near the fovea."])
    assert texts["disease"] == (
        "abnormal",
        "Moderate Non-Proliferative Diabetic Retinopathy",
        "Diabetic Retinopathy",
        "Diabetic Macular Edema",
    )
    assert texts["explanation"][0] == "Retinal hemorrhages or hard exudates observed"
    assert texts["explanation"][-1] == "Exudates near the fovea."
    assert describe_labels(["Health"])["disease"] == ("normal", "Health")


@pytest.mark.parametrize("negative", NEGATIVE_OF)
def test_what_is_absent_makes_nobody_healthy(negative):
    """A data set that asked for one disease says nothing of the others, in texts as in questions."""
    name = diseases()[negative].name
    assert describe_labels([negative])["disease"] == (name,)
    assert describe_labels([negative], complete=True)["disease"] == ("normal", "Health", name)
    assert true_codes([negative]) == {negative}


def test_no_dr_alone_excludes_only_dr():
    assert not {"DR", "Mild NPDR", "PDR"} & possible_codes(["No DR"])
    assert {"Health", "AMD", "Glaucoma", "Cataract"} <= possible_codes(["No DR"])
    assert "Glaucoma" not in possible_codes(["No DR", "No Glaucoma"])
    assert "No DR" in true_codes(["Health"]) & true_codes(["Glaucoma"])
    assert "AMD" not in possible_codes(["Glaucoma"])


def test_grades_are_folded_for_the_probe():
    assert classes_of(["Mild NPDR", "DME", "No AMD"]) == {"DR", "DME"}
    assert classes_of(["Wet AMD", "Glaucoma"]) == {"AMD", "Glaucoma"}


ROW = {"image": "a.jpg", "dataset": "D", "split": "train", "group": "p", "grade": "", "text": "", "licence": "L"}


def folder_with(tmp_path, *rows):
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted(COLUMNS))
        writer.writeheader()
        writer.writerows({**ROW, **row} for row in rows)
    return tmp_path


def test_messy_labels_are_mapped_graded_and_listed(tmp_path):
    long = "The disc is pale and the vessels are narrow over the whole of the field."
    folder = folder_with(
        tmp_path,
        {"labels": "Diabetic Retinopathy;  epiretinal membrane ", "grade": "moderate NPDR", "text": "short"},
        {"labels": "cataract", "grade": "cataract severity 2.0/10", "text": long, "group": "q"},
        {"labels": "age-related macular degeneration", "grade": "wet"},
        {"labels": "mystery; drusen"},
        {"labels": "mystery"},
        {"labels": "diabetic retinopathy", "grade": "mild", "text": "Mild DR without maculopathy"},
    )
    records, unmapped = read_fundus_folder(folder)
    assert [record.labels for record in records] == [
        ("Moderate NPDR", "ERM"),
        ("Cataract",),
        ("Wet AMD",),
        ("Drusen",),
        ("Mild NPDR", "No DME"),
    ]
    assert unmapped == {"mystery": 2}
    assert long in records[1].texts["explanation"]
    assert "short" not in records[0].texts["explanation"]


def test_the_reader_of_real_labels_and_the_generator_share_the_table(tmp_path):
    """Both say the same of the same labels, in the words of `diseases.csv`; class codes are names of a vocabulary of their own."""
    drawn = list(read_manifest(generate(tmp_path / "drawn", 60, seed=0, size=64, progress=False)))
    folder = folder_with(tmp_path, *({"labels": "; ".join(own.labels)} for own in drawn))
    read, unmapped = read_fundus_folder(folder, LabelReader(read_vocabulary(["mgll"])))
    assert not unmapped
    assert [own.labels for own in read] == [own.labels for own in drawn]
    assert [describe_labels(own.labels, complete=True) for own in read] == [own.texts for own in drawn]
    assert len({label for own in drawn for label in own.labels}) > 15
    with (files("mgll.vocabulary") / "diseases.csv").open() as file:
        explanations = {row["explanation"] for row in csv.DictReader(file)}
    assert {text for own in drawn for text in own.texts["explanation"]} <= explanations


def test_what_was_read_as_what_is_listed_and_guessed_is_counted(tmp_path):
    rows = [
        {"labels": "normal; normal", "grade": "no DR", "group": "nan"},
        {"labels": "diabetic retinopathy", "grade": "stage 7", "group": ""},
        {"labels": "cataract", "grade": "mild"},
        {"labels": "N/A"},
    ]
    labels, notes = LabelReader(), Counter()
    records, _ = read_fundus_folder(folder_with(tmp_path, *rows), labels, notes)
    assert [record.labels for record in records] == [("Health",), ("DR",), ("Cataract",)]
    assert labels.notes() == {
        "'normal' read as class Health (Health)": 1,
        "'diabetic retinopathy' read as class DR (Diabetic Retinopathy)": 1,
        "'cataract' read as class Cataract (Cataract)": 1,
    }
    assert notes == {
        "group is missing: a group of its own, though some may show one patient": 2,
        "grade 'stage 7' is none of DR: read as DR without a grade": 1,
        "left out: no label that has a class": 1,
    }


@pytest.mark.parametrize("label", ["HR", "no DR", "mild", "dry", "retinal vein occlusion", "1"])
def test_a_label_of_several_meanings_is_refused(tmp_path, label):
    with pytest.raises(ValueError, match=re.escape(repr(label))):
        read_fundus_folder(folder_with(tmp_path, {"labels": f"drusen; {label}"}))


def test_a_bad_table_is_named(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        read_fundus_folder(tmp_path / "nowhere")
    with pytest.raises(FormatError, match=r"line 2: field split: .*'training'"):
        read_fundus_folder(folder_with(tmp_path, {"labels": "drusen", "split": "training"}))


def test_the_real_photographs_become_a_manifest(fundus_folder, tmp_path):
    records, unmapped = read_fundus_folder(fundus_folder)
    assert (len(records), dict(unmapped)) == (3623, {})
    write_manifest(tmp_path / "m.jsonl", records)
    assert [len(read_manifest(tmp_path / "m.jsonl", split)) for split in ("train", "val", "test")] == [2724, 352, 547]
    assert all(record.licence for record in records)
