"""A folder with a CSV file: columns by flags, several texts in a cell, splits by group."""

import gzip
import re

import pytest
from PIL import Image

from mgll.manifest.records import read_manifest
from mgll.readers.folder_csv import _main
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
    code = _main([str(folder), "--table", str(folder / table), "--image", "file", "--out", str(out), *flags])
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
        ("a.png,p1", "a.png,", ("--group", "patient"), "line 2: field patient: the group is empty"),
        ("a.png,p1", ",p1", (), "line 2: field file: empty"),
        ("b.png,p2,test", "b.png,p3,test", ("--group", "patient"), "line 4: 'b.png' has another group or split"),
        ("b.png,p2,test", "b.png,test", (), "line 4: expected 7 cells"),
        ("patient", "person", ("--group", "patient"), r"columns \['patient'\] are missing"),
        ("a.png,p1", "a.png,p2", ("--group", "patient", "--split", "part"), "group 'p2' is in split 'test'"),
        ("", "", ("--separator", "texts=;"), "--separator for texts: no such --level"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(folder, capsys, old, new, flags, message):
    (folder / "t.csv").write_text(TABLE.replace(old, new, 1))
    assert read(folder, *LEVELS, *flags) == 1
    out = capsys.readouterr().out
    assert re.search(message, out), out
    assert not (folder / "m.jsonl").exists()
