"""Readers of published data sets, each on a copy of its layout: labels, official splits, patients, and what is said."""

from collections import Counter
from importlib import import_module
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from mgll.manifest.records import Record, read_manifest
from mgll.readers.__main__ import main as list_data_sets
from mgll.readers.downloads import SETS

#: Layout -> flags, and of each image: its file, split ("" where it is drawn by a hash) and labels; then what else is printed.
FUNDUS = {
    "fives": (
        [
            ("train/Original/2_D.png", "", "DR"),
            ("test/Original/1_A.png", "test", "AMD"),
            ("test/Original/4_N.png", "test", "Health"),
        ],
        8,
        "no official validation split",
    ),
    "idrid": (
        [
            ("a. Training Set/IDRiD_001.jpg", "", "Severe NPDR;DME"),
            ("b. Testing Set/IDRiD_002.jpg", "test", "No DR;No DME"),
        ],
        4,
        "no patient is named",
    ),
    "ddr": (
        [
            ("train/007-4-train.jpg", "train", "PDR"),
            ("valid/007-1-valid.jpg", "val", "Mild NPDR"),
            ("test/007-2-test.jpg", "test", "Moderate NPDR"),
        ],
        5,
        "left out: grade 5, which can't be graded: 1 images",
    ),
    "adam": (
        [
            ("AMD/A0001.jpg", "train", "AMD"),
            ("Non-AMD/N0001.jpg", "train", "No AMD"),
            ("V0001.jpg", "val", "AMD"),
            ("T0001.jpg", "test", "No AMD"),
        ],
        4,
        "",
    ),
    "palm": (
        [("P0000.jpg", "train", "Myopia"), ("V0000.jpg", "val", "Myopia"), ("T0001.jpg", "test", "Health")],
        6,
        "",
    ),
    "refuge": (
        [
            ("g0001.jpg", "train", "Glaucoma"),
            ("n0001.jpg", "train", "No Glaucoma"),
            ("V0001.jpg", "val", "Glaucoma"),
            ("T0001.jpg", "test", "No Glaucoma"),
        ],
        4,
        "",
    ),
    "rim_one": (
        [
            ("partitioned_randomly/training_set/glaucoma/r1_Im001.png", "", "Glaucoma"),
            ("r3_N-2-L.png", "test", "Health"),
        ],
        5,
        "its patient is in several official splits, which are kept: a group in each: 2 images",
    ),
    "rfmid": (
        [
            ("Training/1.png", "train", "DR;MH"),
            ("Validation/2.png", "val", "Health"),
            ("Test/3.png", "test", "Other"),
        ],
        9,
        "",
    ),
    "odir": (
        [
            ("ODIR-5K_Training_Dataset/0_left.jpg", "", "Cataract"),
            ("9_left.jpg", "", "Moderate NPDR;BRVO"),
            ("9_right.jpg", "", "ODC;Other"),
        ],
        4,
        "preprocessed_images too: 1 images",
    ),
    "aptos": ([("000c1434d8d7.png", "", "Moderate NPDR"), ("001639a390f0.png", "", "PDR")], 2, "no official split"),
    "messidor2": (
        [("20051020_43808_0100_PP.png", "", "No DR;No DME"), ("IM000300.JPG", "", "PDR;DME")],
        2,
        "left out: not gradable: 1 images",
    ),
}
#: The same of texts, at a level, and of patients.
OTHERS = {
    "chestxray14": (
        [
            ("00000001_000.png", "", "disease", "Cardiomegaly;Pleural Thickening", "1"),
            ("00000002_000.png", "test", "disease", "Hernia", "2"),
        ],
        3,
        "left out: on neither official list: 1 images",
    ),
    "chexpert": (
        [
            ("train/patient00001/study1/view1_frontal.jpg", "train", "disease", "Edema", "patient00001"),
            ("valid/patient64541/study1/view1_frontal.jpg", "val", "disease", "Edema", "patient64541"),
            ("test/patient64741/study1/view1_frontal.jpg", "test", "disease", "No Finding", "patient64741"),
        ],
        3,
        "Pneumonia is -1 (uncertain): left out: 2 images",
    ),
    "covidx": (
        [
            ("train/a.png", "", "disease", "COVID-19", "cohen 3"),
            ("train/b.jpg", "", "disease", "Normal", "rsna COVID 19"),
            ("test/c.png", "test", "disease", "Pneumonia", "rsna 3"),
        ],
        3,
        "",
    ),
    "covidx_cxr": ([("val.png", "val", "disease", "COVID-19", "ricord val-1")], 3, ""),
    "midrc_downstream": ([("npz/MIDRC_XR_Val.npz", "val", "study", "XR Chest AP", None)], 3, "no patient is named"),
    "organamnist": (
        [
            ("images/val/00000.png", "val", "organ", "left femur", None),
            ("test/00001.png", "test", "organ", "spleen", None),
        ],
        6,
        "no patient is named",
    ),
}


def read(layout: str, folder: Path, *flags: str) -> dict[str, Record]:
    """Build a layout, read it, and return its records by image."""
    if not any(folder.iterdir()):
        getattr(layouts, layout)(folder)
    module = layout.removesuffix("_cxr").partition("_of_")[0]
    assert import_module(f"mgll.readers.{module}").main([str(folder), "--out", str(folder / "m.jsonl"), *flags]) == 0
    return {record.image: record for record in read_manifest(folder / "m.jsonl")}


def named(records: dict[str, Record], ending: str) -> Record:
    (found,) = (record for image, record in records.items() if image.endswith("/" + ending))
    return found


@pytest.mark.parametrize("layout", FUNDUS)
def test_photographs_get_classes_texts_and_their_official_splits(layout, tmp_path, capsys):
    expected, count, told = FUNDUS[layout]
    records = read(layout, tmp_path)
    assert len(records) == count
    assert told in capsys.readouterr().out
    for ending, split, labels in expected:
        record = named(records, ending)
        assert record.labels == tuple(labels.split(";"))
        assert record.split == (split or record.split)
        assert split or record.split in ("train", "val", "test")
        assert {"disease", "explanation"} <= record.texts.keys()
        assert record.source
        assert record.licence


@pytest.mark.parametrize("layout", OTHERS)
def test_radiographs_and_organs_get_their_words(layout, tmp_path, capsys):
    expected, count, told = OTHERS[layout]
    records = read(layout, tmp_path)
    assert len(records) == count
    assert told in capsys.readouterr().out
    for ending, split, level, words, patient in expected:
        record = named(records, ending)
        assert record.texts[level] == tuple(words.split(";"))
        assert record.split == (split or record.split)
        assert record.group == (patient or record.group)


def test_findings_of_the_chest_are_classes_of_their_own_table(tmp_path):
    (tmp_path / "nih").mkdir()
    nih = read("chestxray14", tmp_path / "nih")
    assert named(nih, "00000001_000.png").labels == ("Cardiomegaly", "Pleural Thickening")
    assert named(nih, "00000001_001.png").labels == ("No Finding",)
    with (tmp_path / "nih" / "m.jsonl").open() as manifest:
        assert "chest_xray" in manifest.readline()
    (tmp_path / "stanford").mkdir()
    stanford = read("chexpert", tmp_path / "stanford")
    assert named(stanford, "train/patient00001/study1/view1_frontal.jpg").labels == ("Edema",)
    (tmp_path / "covid").mkdir()
    assert named(read("covidx", tmp_path / "covid"), "train/a.png").labels == ("COVID-19",)


def test_numbers_of_columns_with_empty_cells_are_grades_too(tmp_path):
    layouts.aptos(tmp_path)
    table = tmp_path / "train.csv"
    table.write_text(table.read_text().replace(",2", ",2.0"))
    assert named(read("aptos", tmp_path), "000c1434d8d7.png").labels == ("Moderate NPDR",)


def test_every_data_set_has_a_test_and_is_listed_with_its_licence(capsys):
    modules = {own.download.reader.split()[0] for own in SETS}
    assert modules == {name.removesuffix("_cxr") for name in (FUNDUS | OTHERS)}
    assert list_data_sets(["--list"]) == 0
    told = capsys.readouterr().out
    for own in SETS:
        assert f"  {own.download.name}: python -m mgll.readers.{own.download.reader} FOLDER" in told
        assert own.download.licence in told
    assert (
        told.index("fundus photographs") < told.index("FIVES") < told.index("radiographs") < told.index("ChestX-ray14")
    )


def test_older_archives_are_read_too(tmp_path):
    for name in ("palm", "adam", "refuge", "rfmid"):
        (tmp_path / name).mkdir()
    palm = read("palm_of_2019", tmp_path / "palm")
    assert [named(palm, f"{letter}0001.jpg").labels for letter in "PHNV"] == [("Myopia",), *3 * [("Health",)]]
    assert {record.split for record in palm.values()} == {"train", "val"}
    refuge = read("refuge_of_2018", tmp_path / "refuge")
    assert [
        (named(refuge, f"{letter}0001.jpg").split, named(refuge, f"{letter}0001.jpg").labels) for letter in "gnVT"
    ] == [
        ("train", ("Glaucoma",)),
        ("train", ("No Glaucoma",)),
        ("val", ("Glaucoma",)),
        ("test", ("Glaucoma",)),
    ]
    rfmid = read("rfmid_of_the_challenge", tmp_path / "rfmid")
    assert [(record.split, record.labels) for record in rfmid.values()] == [
        (split, ("Drusen",)) for split in ("train", "val", "test")
    ]
    adam = read("adam_of_2018", tmp_path / "adam", "--validation", "0.4")
    assert 4 < Counter(record.split for record in adam.values())["val"] < 28  # 40 draws of 0.4
    kept = read("adam_of_2018", tmp_path / "adam", "--validation", "0")
    assert {record.split for record in kept.values()} == {"train"}


def test_splits_do_not_depend_on_where_a_set_lies(tmp_path):
    splits = []
    for place in ("here", "there/deeper"):
        (tmp_path / place).mkdir(parents=True)
        splits.append({image: record.split for image, record in read("adam_of_2018", tmp_path / place).items()})
    here, there = ({image.rpartition("/")[2]: split for image, split in own.items()} for own in splits)
    assert here == there
    assert set(here.values()) == {"train", "val"}


def test_columns_are_chosen_and_a_vocabulary_says_otherwise(tmp_path, capsys):
    (tmp_path / "rfmid").mkdir()
    records = read("rfmid", tmp_path / "rfmid", "--labels", "Disease_Risk,DR")
    assert named(records, "Training/1.png").labels == ("DR",)
    assert named(records, "Training/3.png").texts == {"disease": ("abnormal",)}
    records = read("rfmid", tmp_path / "rfmid", "--labels", "DR,CRVO,Disease_Risk")
    assert named(records, "Training/3.png").labels == ("CRVO",)
    (tmp_path / "palm").mkdir()
    (tmp_path / "own.csv").write_text("label,class,column\n0,,pathological myopia\n")
    palm = read("palm", tmp_path / "palm", "--vocabulary", str(tmp_path / "own.csv"))
    assert named(palm, "T0001.jpg").labels == ()
    (tmp_path / "chest").mkdir()
    chest = read("chexpert", tmp_path / "chest", "--uncertain", "positive")
    assert named(chest, "train/patient00001/study1/view1_frontal.jpg").texts["disease"] == ("Edema", "Pneumonia")
    capsys.readouterr()
    module = import_module("mgll.readers.rfmid")
    assert module.main([str(tmp_path / "rfmid"), "--out", str(tmp_path / "m.jsonl"), "--labels", "DR,Gout"]) == 1
    assert "--labels: no column Gout; there are Disease_Risk" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        module.main([str(tmp_path / "rfmid"), "--out", str(tmp_path / "m.jsonl"), "--validation", "1.5"])
    assert "expected a share from 0 to below 1, found '1.5'" in capsys.readouterr().err


def test_both_eyes_of_a_patient_share_a_split(tmp_path):
    odir = read("odir", tmp_path)
    assert [record.group for record in odir.values()] == ["0", "0", "9", "9"]
    assert len({record.split for record in odir.values() if record.group == "0"}) == 1
    assert named(odir, "9_right.jpg").texts["disease"] == (
        "abnormal",
        "Optic Disk Cupping",
        "Other Disease",
        "Suspected Glaucoma",
        "White Vessel",
    )


def test_examinations_are_groups_where_their_table_is_there(tmp_path, capsys):
    records = read("messidor2", tmp_path)
    assert [record.group for record in records.values()] == ["examination 1", "examination 2"]
    (tmp_path / "messidor-2.csv").unlink()
    capsys.readouterr()
    assert named(read("messidor2", tmp_path), "IM000300.JPG").group == "IMAGES/IM000300.JPG"
    assert (
        "no patient is named: a group of its own, though some may show one patient: 2 images" in capsys.readouterr().out
    )


def test_the_other_partition_and_the_portable_views(tmp_path):
    (tmp_path / "rim").mkdir()
    read("rim_one", tmp_path / "rim")
    folder = tmp_path / "rim" / "RIM-ONE_DL_images" / "partitioned_by_hospital"
    assert named(read("rim_one", folder), "test_set/glaucoma/r2_Im300.png").split == "test"
    (tmp_path / "midrc").mkdir()
    portable = read("midrc_downstream", tmp_path / "midrc", "--portable")
    assert {record.source for record in portable.values()} == {"MIDRC-XR-Portable"}
    assert {record.labels for record in portable.values()} == {("Portable XR Chest AP single view",)}


def test_an_npz_file_becomes_images_with_its_pixels(tmp_path):
    records = read("organamnist", tmp_path)
    assert named(records, "val/00000.png").labels == ("left femur",)
    for number, split in enumerate(("train", "val", "test")):
        written = np.asarray(Image.open(tmp_path / named(records, f"{split}/00001.png").image))
        assert np.array_equal(written, np.full((28, 28), number))


@pytest.mark.parametrize(
    ("layout", "wrong", "message"),
    [
        ("fives", "test/Original", "no test/Original in it, nor in a folder of it"),
        ("aptos", "train.csv", "no train.csv in it"),
        ("ddr", "valid.txt", "no DR_grading/valid.txt or valid.txt in it"),
        ("rfmid", "RFMiD_Testing_Labels.csv", "no RFMiD_Testing_Labels.csv or c. RFMiD_Testing_Labels.csv in it"),
        ("organamnist", "organamnist.npz", "no organamnist*.npz in it"),
    ],
)
def test_what_is_missing_is_named_in_one_line(layout, wrong, message, tmp_path, capsys):
    getattr(layouts, layout)(tmp_path)
    (gone,) = tmp_path.glob(f"**/{wrong}")
    gone.rename(gone.with_name("gone"))
    assert import_module(f"mgll.readers.{layout}").main([str(tmp_path), "--out", str(tmp_path / "m.jsonl")]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.parametrize(
    ("layout", "file", "old", "new", "message"),
    [
        ("aptos", "train.csv", "c1434d8d7,2", "c1434d8d7,7", "field diagnosis: '7' is a value, not words"),
        (
            "ddr",
            "DDR-dataset/DR_grading/test.txt",
            "007-2-test.jpg 2",
            "007-2-test.jpg",
            "line 1: expected 2 words or more",
        ),
        ("chexpert", "CheXpert-v1.0-small/valid.csv", "valid/patient", "valid/person", "line 2: field Path: expected"),
        (
            "chexpert",
            "CheXpert-v1.0-small/train.csv",
            ",1.0,,",
            ",maybe,,",
            "expected 1, 0, -1 or nothing, found 'maybe'",
        ),
        (
            "messidor2",
            "messidor_data.csv",
            "image_id",
            "picture",
            "expected the columns image_id and adjudicated_dr_grade",
        ),
        ("idrid", "**/a. IDRiD*.csv", "Retinopathy grade", "Grade", r"columns ['Retinopathy grade'] are missing"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(layout, file, old, new, message, tmp_path, capsys):
    getattr(layouts, layout)(tmp_path)
    (path,) = tmp_path.glob(file)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert import_module(f"mgll.readers.{layout}").main([str(tmp_path), "--out", str(tmp_path / "m.jsonl")]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_images_that_are_not_there_are_counted_and_two_places_are_refused(tmp_path, capsys):
    records = read("aptos", tmp_path)
    (tmp_path / next(iter(records))).unlink()
    capsys.readouterr()
    assert len(read("aptos", tmp_path)) == 1
    assert "the image is not there; the first is" in capsys.readouterr().out
    for copy in ("one", "two"):
        layouts.aptos(tmp_path / copy)
    (tmp_path / "train.csv").unlink()
    assert import_module("mgll.readers.aptos").main([str(tmp_path), "--out", str(tmp_path / "m.jsonl")]) == 1
    assert "2 times train.csv in it" in capsys.readouterr().err
