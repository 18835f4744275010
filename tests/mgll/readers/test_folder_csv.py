"""A folder with a CSV file: columns by flags, several texts in a cell, splits by group."""

import csv
import gzip
import re
from pathlib import Path

import pytest
from openpyxl import Workbook
from PIL import Image

from mgll.manifest.records import read_manifest
from mgll.readers.folder_csv import main
from mgll.readers.splits import split_of_group

TABLE = """file,patient,part,finding,grade,report,set
a.png,p1,training,Drusen;Cataract,mild,"Hazy lens; small, bright spots.",S1
b.png,p2,TEST,,,Nothing special.,S2
b.png,p2,test,DR,,Dots.,S2
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def read(folder, *flags, table="t.csv"):
    out = folder / "m.jsonl"
    code = main([str(folder), "--table", str(folder / table), "--image", "file", "--out", str(out), *flags])
    return list(read_manifest(out)) if code == 0 else code


LEVELS = ("--level", "disease=finding,grade", "--level", "report=report", "--separator", "disease=;")


def test_columns_are_chosen_by_flags_and_rows_of_an_image_merged(folder, capsys):
    flags = ("--group", "patient", "--split", "part", "--labels", "finding", "--separator", "labels=;")
    a, b = read(folder, *LEVELS, *flags, "--source-column", "set", "--licence", "CC BY 4.0")
    assert a.texts == {"disease": ("Drusen", "Cataract", "mild"), "report": ("Hazy lens; small, bright spots.",)}
    assert b.texts == {"report": ("Nothing special.", "Dots."), "disease": ("DR",)}
    assert (a.split, b.split, a.group, b.source, a.licence) == ("train", "test", "p1", "S2", "CC BY 4.0")
    assert (a.labels, b.labels) == (("Drusen", "Cataract"), ("DR",))
    assert "2 images of 2 groups" in capsys.readouterr().out


def test_a_gzipped_table_reads_the_same(folder):
    with gzip.open(folder / "t.csv.gz", "wt") as file:
        file.write(TABLE)
    assert read(folder, *LEVELS, table="t.csv.gz") == read(folder, *LEVELS)


def test_without_a_split_column_images_are_split_by_group(folder):
    a, b = read(folder, *LEVELS, "--group", "patient", "--shares", "0,0,1")
    assert (a.split, b.split) == ("test", "test")


def test_the_split_by_group_has_its_shares_and_knows_nothing_else():
    splits = [split_of_group(f"p{n}", seed=1) for n in range(5000)]
    assert [round(splits.count(name) / 5000, 1) for name in ("train", "val", "test")] == [0.7, 0.1, 0.2]
    assert splits != [split_of_group(f"p{n}", seed=2) for n in range(5000)]


@pytest.mark.parametrize(
    ("old", "new", "flags", "message"),
    [
        ("training", "learn", ("--split", "part"), "line 2: field part: expected one of train"),
        ("a.png,p1", ",p1", (), "line 2: field file: empty"),
        ("a.png,p1", "nan,p1", (), "line 2: field file: nan, not the path of an image"),
        ("b.png,p2,test", "b.png,p3,test", ("--group", "patient"), "line 4: 'b.png' has another group or split"),
        ("b.png,p2,test", "b.png,test", (), "line 4: expected 7 cells"),
        ("patient", "person", ("--group", "patient"), r"columns \['patient'\] are missing"),
        ("a.png,p1", "a.png,p2", ("--group", "patient", "--split", "part"), "group 'p2' is in split 'test'"),
        ("", "", ("--separator", "texts=;"), "--separator for texts: no such --level"),
        ("finding", "grade", (), r"line 1: columns \['grade'\] stand twice in the header"),
        (",finding", ", grade ", (), r"line 1: columns \['grade'\] stand twice in the header"),
        ("mild", "2", (), "line 2: field grade: '2' is a value, not words; .* --vocabulary grade=icdr"),
        ("mild", "N", (), "line 2: field grade: 'N' is a value, not words"),
        ("mild", "True", (), "line 2: field grade: 'True' is a value, not words; .* --one-hot"),
        ("Drusen;Cataract", "1;0", (), "line 2: field finding: '1' is a value"),
        ("Drusen;Cataract", "1", ("--labels", "finding"), "line 2: field finding: '1' is a value"),
        ("", "", ("--one-hot", "DR"), "--one-hot DR: no such --level; name the columns"),
        (
            "",
            "",
            ("--one-hot", "disease"),
            "line 2: field finding: expected 1, 0, -1 or nothing, found 'Drusen;Cataract'",
        ),
        ("", "", ("--vocabulary", "nowhere"), "nowhere: no such vocabulary; shipped are mgll, adam, chestxray14"),
        ("", "", ("--delimiter", "ab"), "--delimiter: expected one character"),
        ("", "", ("--delimiter", ";"), r"columns .* are missing, .* separated by ',': add --delimiter ','"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(folder, capsys, old, new, flags, message):
    (folder / "t.csv").write_text(TABLE.replace(old, new, 1))
    assert read(folder, *LEVELS, *flags) == 1
    out = "".join(capsys.readouterr())
    assert re.search(message, out), out
    assert not (folder / "m.jsonl").exists()


def test_what_helps_several_values_is_said_once(folder, capsys):
    (folder / "t.csv").write_text("file,grade\na.png,1\nb.png,2\n")
    assert read(folder, "--labels", "grade") == 1
    out = "".join(capsys.readouterr())
    assert "field grade: '1' is a value" in out
    assert "line 3: field grade: '2' is a value" in out
    assert out.count("--one-hot") == 1


def table(folder, name, text):
    (folder / name).write_text(text)
    return folder


ONE_HOT = "file,DR,ARMD,MH\na.png,0,1,1.0\nb.png,1,-1,\n"


def test_one_hot_columns_are_read_by_their_names(folder, capsys):
    table(folder, "t.csv", ONE_HOT)
    ways = (("--level", "disease=DR,ARMD,MH", "--one-hot"), ("--one-hot", "disease=DR,ARMD,MH"))
    for flags in (*ways, ("--level", "disease=DR,ARMD,MH", "--one-hot", "disease")):
        a, b = read(folder, *flags)
        assert (a.texts, b.texts) == ({"disease": ("ARMD", "MH")}, {"disease": ("DR",)})
        assert a.labels == b.labels == ()
        out = capsys.readouterr().out
        assert "ARMD is -1 (uncertain): left out: 1 images" in out
        assert "MH is blank: read as not stated: 1 images" in out
    assert read(folder, *ways[1], "--uncertain", "positive")[1].texts == {"disease": ("DR", "ARMD")}
    assert "ARMD is -1 (uncertain): read as positive: 1 images" in capsys.readouterr().out


def test_without_one_hot_such_columns_are_refused(folder, capsys):
    table(folder, "t.csv", ONE_HOT)
    assert read(folder, "--level", "disease=DR,ARMD,MH") == 1
    assert "line 2: field DR: '0' is a value, not words" in "".join(capsys.readouterr())


def test_a_vocabulary_names_the_one_hot_columns_and_gives_words_and_classes(folder, capsys):
    table(folder, "t.csv", "file,Disease_Risk,DR,HR,EDN\na.png,0,0,0,0\nb.png,1,0,1,1\n")
    a, b = read(folder, "--vocabulary", "rfmid", "--one-hot", "disease")
    assert (a.texts, a.labels) == ({"disease": ("Health",)}, ("Health",))
    assert b.texts == {"disease": ("abnormal", "Hemorrhagic Retinopathy", "Exudation")}
    assert b.labels == ("Hemorrhagic Retinopathy", "Other")
    assert "'HR' read as 'Hemorrhagic Retinopathy' (class Hemorrhagic Retinopathy): 1 images" in "".join(
        capsys.readouterr()
    )
    assert read(folder, "--vocabulary", "icdr", "--one-hot", "disease") == 1
    assert "no --vocabulary names any of the columns file, Disease_Risk" in "".join(capsys.readouterr())


def test_an_ending_that_the_table_leaves_out_is_added(folder):
    table(folder, "t.csv", "file,finding\na,Drusen\nb,DR\n")
    assert [Path(record.image).name for record in read(folder, "--level", "d=finding", "--ending", ".png")] == [
        "a.png",
        "b.png",
    ]


def test_one_hot_columns_give_classes_where_these_are_asked_for(folder, capsys):
    table(folder, "t.csv", ONE_HOT)
    a, b = read(folder, "--one-hot", "disease=ARMD,MH", "--one-hot", "labels=DR,ARMD")
    assert (a.labels, b.labels) == (("AMD",), ("DR",))
    assert "'ARMD' read as class AMD (Age-related Macular Degeneration): 1 images" in "".join(capsys.readouterr())
    assert read(folder, "--one-hot", "labels=DR,MH") == 1
    out = "".join(capsys.readouterr())
    assert "'MH' (1 images): MH (Media Haze) or Macular Hole" in out
    assert len(out.splitlines()) == 1


def test_grades_are_words_by_a_vocabulary_of_their_column_alone(folder, capsys):
    table(folder, "t.csv", "file,diagnosis,dme\na.png,0,0\nb.png,3,1\n")
    a, b = read(folder, "--level", "disease=diagnosis", "--vocabulary", "icdr")
    assert (a.labels, b.labels) == (("No DR",), ("Severe NPDR",))
    assert a.texts == {"disease": ("No Diabetic Retinopathy",)}
    flags = ("--level", "disease=diagnosis,dme", "--vocabulary", "icdr")
    assert read(folder, *flags) == 1
    assert "line 2: field dme: '0' is a value" in "".join(capsys.readouterr())
    (folder / "dme.csv").write_text("label,class,words\n0,No DME,\n1,DME,Macular edema of a diabetic eye\n")
    a, b = read(folder, *flags, "--vocabulary", f"dme={folder / 'dme.csv'}")
    assert (a.labels, b.labels) == (("No DR", "No DME"), ("Severe NPDR", "DME"))
    assert b.texts["disease"][1] == "Macular edema of a diabetic eye"


@pytest.mark.parametrize("nothing", ["nan", "NaN", "None", "N/A", "NULL", "", " ", "<NA>", "unknown", "-"])
def test_what_is_missing_is_neither_a_word_nor_a_patient(folder, capsys, nothing):
    rows = "".join(f"{name}.png,{nothing},{nothing}\n" for name in "ab")
    Image.new("RGB", (4, 4)).save(folder / "c.png")
    table(folder, "t.csv", f"file,patient,finding\n{rows}c.png,p3,Drusen\n")
    a, b, _ = read(folder, "--level", "disease=finding", "--labels", "finding", "--group", "patient")
    assert (a.group, b.group) == ("a.png", "b.png")
    assert (a.texts, a.labels) == ({}, ())
    out = capsys.readouterr().out
    assert "3 images of 3 groups" in out
    assert "patient is missing: a group of its own, though some may show one patient: 2 images" in out
    assert (f"finding is {nothing!r}: read as missing: 2 images" in out) == bool(nothing.strip())


def test_excel_and_tab_separated_tables_read_the_same(folder):
    expected = read(folder, *LEVELS, "--group", "patient")
    cells = list(csv.reader(TABLE.splitlines()))
    book = Workbook()
    for row in cells:
        book.active.append([cell or None for cell in row])
    book.create_sheet("empty")
    book.save(folder / "t.xlsx")
    tabbed = "".join("\t".join(row) + "\n" for row in cells)
    for name in ("t.tsv", "t.txt"):
        (folder / name).write_text(tabbed)
    with gzip.open(folder / "z.tsv.gz", "wt") as file:
        file.write(tabbed)
    for name in ("t.xlsx", "t.tsv", "z.tsv.gz"):
        assert read(folder, *LEVELS, "--group", "patient", table=name) == expected
    for delimiter in ("\t", "\\t", "tab"):
        assert read(folder, *LEVELS, "--group", "patient", "--delimiter", delimiter, table="t.txt") == expected


def test_numbers_in_a_workbook_are_whole_numbers_as_shown(folder):
    book = Workbook()
    for row in (["file", "patient", "DR"], ["a.png", 10000032, 1], ["b.png", 7, 0]):
        book.active.append(row)
    book.save(folder / "t.xlsx")
    a, b = read(folder, "--one-hot", "disease=DR", "--group", "patient", table="t.xlsx")
    assert (a.group, b.group, a.texts) == ("10000032", "7", {"disease": ("DR",)})


def test_a_workbook_that_is_none_or_has_several_sheets_is_refused(folder, capsys):
    (folder / "t.xlsx").write_text(TABLE)
    assert read(folder, *LEVELS, table="t.xlsx") == 1
    assert "not a readable .xlsx workbook" in "".join(capsys.readouterr())
    book = Workbook()
    book.active.append(["file"])
    book.create_sheet("more").append(["file"])
    book.save(folder / "t.xlsx")
    assert read(folder, *LEVELS, table="t.xlsx") == 1
    assert "2 sheets ('Sheet', 'more'), none has these columns; say which is meant: --sheet NAME" in "".join(
        capsys.readouterr()
    )
    (folder / "t.xls").write_text("")
    assert read(folder, *LEVELS, table="t.xls") == 1
    assert ".xls is not read; save it as .xlsx or as CSV" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "label", ["HR", "No DR", "mild", "Dry", "retinal vein occlusion", "Retinal Vascular Occlusion", "macular oedema"]
)
def test_labels_of_several_meanings_are_refused_until_a_vocabulary_decides(folder, capsys, label):
    table(folder, "t.csv", f"file,finding\na.png,{label}\nb.png,Drusen\n")
    flags = ("--level", "disease=finding", "--labels", "finding")
    assert read(folder, *flags) == 1
    out = "".join(capsys.readouterr())
    assert f"{label!r} (1 images)" in out
    assert "--vocabulary FILE.csv, first line label,class, then lines such as" in out
    assert len(out.splitlines()) == 1
    (folder / "v.csv").write_text(f"label,class\n{label},Cataract\n")
    a, b = read(folder, *flags, "--vocabulary", str(folder / "v.csv"))
    assert (a.labels, a.texts, b.labels) == (("Cataract",), {"disease": ("Cataract",)}, ("Drusen",))
    out = "".join(capsys.readouterr())
    assert f"{label!r} read as 'Cataract' (class Cataract): 1 images" in out
    assert "'Drusen' read as class Drusen (Drusen): 1 images" in out
    assert "a text of finding that no vocabulary has is kept as written: 1 images" in out


def test_a_cell_that_looks_like_several_labels_is_said(folder, capsys):
    table(folder, "t.csv", 'file,finding\na.png,Health;Glaucoma\nb.png,"The lens, hazy; a report."\n')
    read(folder, "--level", "disease=finding")
    out = capsys.readouterr().out
    assert "a text of finding looks like several; --separator 'disease=;' parts them: 1 images" in out


def test_a_label_without_a_class_says_what_to_type(folder, capsys):
    labels = (
        "hemiretinal vein occlusion",
        "choroidal nevus",
        '"nevus, flat"',
        "Glaucoma suspect",
        "8.MH",
        "Drusen|Cataract",
    )
    table(folder, "t.csv", "file,finding\n" + "".join(f"a.png,{label}\n" for label in labels))
    read(folder, "--level", "disease=finding", "--labels", "finding")
    out = capsys.readouterr().out
    assert "'hemiretinal vein occlusion' (perhaps BRVO (Branch Retinal Vein Occlusion) or CRVO" in out
    assert (
        "--vocabulary FILE.csv with label,class and a line such as hemiretinal vein occlusion,BRVO gives it one: 1"
        in out
    )
    assert "a line such as choroidal nevus,CLASS gives it one" in out
    assert 'a line such as "nevus, flat",CLASS gives it one' in out
    assert "'Glaucoma suspect' (perhaps Glaucoma)" in out
    assert "no class for label '8.MH'; --vocabulary jsiec knows it: 1 images" in out
    assert "no class for label 'Drusen|Cataract'; perhaps several labels: --separator 'labels=|': 1 images" in out


CONFLICTS = "file,finding\na.png,Health;Glaucoma\na.png,Cataract\nb.png,mild NPDR\n./b.png,Severe NPDR\n"


def test_contradictions_are_counted_and_listed_and_no_longer_listed_when_mended(folder, capsys):
    table(folder, "t.csv", CONFLICTS)
    flags = ("--level", "disease=finding", "--labels", "finding", "--separator", "disease=;", "--separator", "labels=;")
    a, b = read(folder, *flags)
    assert (a.labels, b.labels) == (("Health", "Glaucoma", "Cataract"), ("Mild NPDR", "Severe NPDR"))
    out = capsys.readouterr().out
    assert "a further row of an image says something else: both are kept: 2 images" in out
    assert (
        "contradictory labels: 2 images (Health beside Cataract 1, Health beside Glaucoma 1, Mild NPDR beside Severe"
        in out
    )
    listed = folder / "m.contradictions.csv"
    assert listed.read_text().splitlines() == [
        "image,contradiction",
        "a.png,Health beside Cataract; Health beside Glaucoma",
        "b.png,Mild NPDR beside Severe NPDR",
    ]
    table(folder, "t.csv", "file,finding\na.png,Health\nb.png,DR\n")
    read(folder, *flags)
    assert not listed.exists()


def test_a_group_that_may_stand_for_all_unknown_patients_is_named(folder, capsys):
    names = [f"{number}.png" for number in range(24)]
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)
    flags = ("--level", "disease=finding", "--group", "patient")
    for patients, named in ((["-1"] * 24, True), (["p1"] * 12 + ["p2"] * 12, False)):
        rows = "".join(f"{name},{patient},Drusen\n" for name, patient in zip(names, patients, strict=True))
        table(folder, "t.csv", f"file,patient,finding\n{rows}")
        read(folder, *flags)
        said = "group '-1' holds 24 of 24 images; if it stands for unknown patients, leave these cells empty"
        assert (said in capsys.readouterr().out) == named
