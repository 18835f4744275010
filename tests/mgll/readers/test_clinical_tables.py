"""Tables as clinics have them: encodings, titles, sheets, eyes side by side, empty patients, abbreviations; and --guess."""

import re
import shlex
import zipfile

import pytest
from openpyxl import Workbook
from PIL import Image

from mgll.__main__ import main as mgll
from mgll.manifest.records import read_manifest
from mgll.readers.folder_csv import main

FLAGS = ("--image", "Bild", "--group", "Patient", "--labels", "Diagnose")
GERMAN = "Bild;Patient;Diagnose;Größe\na.jpg;Müller;Katarakt;1,5\nb.jpg;Schäfer;o.B.;2,0\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "left/1.jpg", "right/1.jpg", "007_OD.JPG", "007_OS.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def read(folder, text, *flags, name="t.csv"):
    if text is not None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    out = folder / "m.jsonl"
    out.unlink(missing_ok=True)
    code = main([str(folder), "--table", str(folder / name), "--out", str(out), *flags])
    return list(read_manifest(out)) if code == 0 else code


def images(records, folder):
    return [str(record.image).removeprefix(f"{folder}/") for record in records]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_encodings_and_delimiters_are_found(folder, capsys, encoding, delimiter):
    records = read(folder, GERMAN.replace(";", delimiter).encode(encoding), *FLAGS)
    assert [(record.group, record.labels) for record in records] == [
        ("Müller", ("Cataract",)),
        ("Schäfer", ("Health",)),
    ]
    assert records[0].texts == {
        "disease": ("abnormal", "Cataract"),
        "explanation": ("Opacification of crystalline lens observed",),
    }
    out = capsys.readouterr().out
    assert ("read as Windows-1252, such as 'Größe" in out) == (encoding == "cp1252")
    assert "cells are separated by" in out


def test_an_encoding_that_nobody_can_find_is_said_by_a_flag(folder, capsys):
    assert read(folder, GERMAN.encode("cp850"), *FLAGS) == 1
    assert "not charmap text" in (said := capsys.readouterr().err)
    assert "--encoding NAME (cp850, mac_roman, ...)" in said
    assert read(folder, None, *FLAGS, "--encoding", "cp850")[0].group == "Müller"
    assert read(folder, None, *FLAGS, "--encoding", "klingon") == 1
    assert "no such encoding: 'klingon'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_header_below_a_title_is_found_and_its_spelling_may_differ(folder, capsys, name):
    rows = [
        ["Augenklinik, Export", "", ""],
        ["Stand 3.4.2025", "", ""],
        ["", "", ""],
        ["bild", "Patient_ID", "Diagnose "],
    ]
    rows += [["A", "1", "POAG"], ["B.JPG", "2", "ARMD"], ["", "", ""]]
    if name == "t.xlsx":
        book = Workbook()
        for row in rows:
            book.active.append([cell or None for cell in row])
        book.create_sheet("Legende").append(["o.B.", "ohne Befund"])
        book.save(folder / name)
    text = None if name == "t.xlsx" else "sep=;\n" + "".join(";".join(row) + "\n" for row in rows)
    records = read(folder, text, "--image", "Bild", "--group", "Patient ID", "--labels", "Diagnose", name=name)
    assert [(record.group, record.labels) for record in records] == [("1", ("Glaucoma",)), ("2", ("AMD",))]
    assert images(records, folder) == ["a.jpg", "b.jpg"]
    out = capsys.readouterr().out
    assert re.search(r"the header is in line [45]; 2 filled lines above it are passed over", out)
    assert "column 'Patient_ID' is taken for 'Patient ID'" in out
    assert "the image's name has no ending, or another one, in the table: 1 images" in out
    assert "the image's name has other case in the table than in the folder: 1 images" in out
    assert ("of 2 sheets ('Sheet', 'Legende') 'Sheet' alone has these columns" in out) == (name == "t.xlsx")


def test_all_rows_without_an_image_and_all_wrong_values_are_listed_at_once(folder, capsys):
    text = "Bild,Patient,Diagnose\n,1,Drusen\na.jpg,2,3\n,3,Drusen\nb.jpg,2,Drusen\nnan,1,Drusen\n"
    assert read(folder, text, *FLAGS) == 1
    said = capsys.readouterr().err
    assert (
        "line 2: field Bild: empty, not the path of an image (and in lines 4); line 3: field Diagnose: '3' is a value"
        in said
    )
    assert "line 6: field Bild: nan" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("policy", "groups"), [("own", ["1", "b.jpg", "3"]), ("above", ["1", "1", "3"]), ("leave-out", ["1", "3"])]
)
def test_empty_patient_cells_are_listed_with_what_to_do(folder, capsys, policy, groups):
    text = "Bild,Patient,Diagnose\na.jpg,1,Drusen\nb.jpg,,Drusen\nleft/1.jpg,3,Drusen\n"
    flags = () if policy == "own" else ("--empty-group", policy)
    assert [record.group for record in read(folder, text, *FLAGS, *flags)] == groups
    out = capsys.readouterr().out
    assert "Patient is empty in 1 rows (lines 3): " in out
    assert ("--empty-group above" in out) == (policy == "own")


def test_image_names_lose_their_folder_ending_case_and_zeros_but_never_change_the_eye(folder, capsys):
    text = "Bild\nC:\\study\\left\\1.jpg\n/data/RIGHT/1.JPG\nb\n"
    records = read(folder, text, "--image", "Bild", "--level", "d=Bild")
    assert images(records, folder) == ["left/1.jpg", "right/1.jpg", "b.jpg"]
    assert read(folder, "Bild\n1.jpg\n", "--image", "Bild", "--level", "d=Bild") == 1
    assert "'1.jpg' may be 2 files (left/1.jpg, right/1.jpg)" in capsys.readouterr().err
    (folder / "left/1.jpg").unlink()
    assert read(folder, "Bild\nleft/1.jpg\n", "--image", "Bild", "--level", "d=Bild") == 1
    assert "the image is not there" in capsys.readouterr().err
    Image.new("RGB", (4, 4)).save(folder / "0042.png")
    records = read(folder, "Bild\n42.0\n", "--image", "Bild", "--level", "d=Bild", "--vocabulary", "mgll")
    assert records == 1  # a number is no text
    records = read(folder, "Bild,f\n42.0,Drusen\n", "--image", "Bild", "--labels", "f")
    assert images(records, folder) == ["0042.png"]


def test_several_label_columns_have_separators_of_their_own(folder):
    text = 'Bild\tDiagnose, rechts\tneben\na.jpg\tDrusen und Katarakt\tERM; CNV\nb.jpg\tGlaukom\t"CME\nVH?"\n'
    flags = ("--image", "Bild", "--labels", '"Diagnose, rechts",neben', "--separator", "Diagnose, rechts= und ")
    a, b = read(folder, text, *flags, "--separator", "neben=;", "--separator", "neben=\\n")
    assert a.labels == ("Drusen", "Cataract", "ERM", "CN")
    assert b.labels == ("Glaucoma", "CME")


def test_a_synonyms_file_may_name_classes_by_name_and_be_saved_by_excel(folder, capsys):
    (folder / "s.csv").write_bytes("synonym;class\ngrüner Star mit Loch;glaucoma;\nSehr gut;Normal\n".encode("cp1252"))
    text = "Bild,Diagnose\na.jpg,Grüner Star mit Loch\nb.jpg,sehr gut\nleft/1.jpg,Glaukomm\nright/1.jpg,xyz\n"
    flags = ("--image", "Bild", "--labels", "Diagnose", "--synonyms", str(folder / "s.csv"))
    assert [record.labels for record in read(folder, text, *flags)] == [("Glaucoma",), ("Health",), (), ()]
    out = capsys.readouterr().out
    assert "'sehr gut' read as 'Health' (class Health): 1 images" in out
    assert "no class for label 'Glaukomm' (perhaps Glaucoma)" in out
    assert "no class for label 'xyz'; --vocabulary FILE.csv" in out


ODIR = """ID,Patient Age,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D
5,60,a.jpg,b.jpg,normal fundus,moderate non proliferative retinopathy，cataract,0,1
6,61,left/1.jpg,,drusen,,0,0
7,62,nowhere.jpg,right/1.jpg,lens dust，normal fundus,glaucoma,1,0
"""


def test_odirs_own_layout_gives_each_eye_its_own_labels_and_both_one_patient(folder, capsys):
    flags = (
        "--group",
        "ID",
        "--eyes",
        "Left,Right",
        "--image",
        "{eye}-Fundus",
        "--labels",
        "{eye}-Diagnostic Keywords",
    )
    records = read(folder, ODIR, *flags, "--separator", "labels=，", "--vocabulary", "odir")
    found = {record.image.removeprefix(f"{folder}/"): (record.group, record.labels) for record in records}
    assert found == {
        "a.jpg": ("5", ("Health",)),
        "b.jpg": ("5", ("Moderate NPDR", "Cataract")),
        "left/1.jpg": ("6", ("Drusen",)),
        "right/1.jpg": ("7", ("Glaucoma",)),
    }
    assert "Right-Fundus is empty: the row has no such image: 1 images" in capsys.readouterr().out
    alone = read(folder, ODIR, *flags[2:], "--separator", "labels=，", "--vocabulary", "odir")
    assert [record.group for record in alone] == [
        "row of a.jpg",
        "row of a.jpg",
        "row of left/1.jpg",
        "row of nowhere.jpg",
    ]


def test_eyes_may_be_called_otherwise_in_every_column_and_in_the_names_of_files(folder):
    text = "Patient;OD;Diagnose links;Diagnose rechts\n007;x;Drusen;Katarakt\n"
    flags = ("--group", "Patient", "--eyes", "OS|links,OD|rechts", "--image", "Patient", "--ending", "_{eye}.jpg")
    left, right = read(folder, text, *flags, "--labels", "Diagnose {eye}")
    assert (left.labels, right.labels, left.group, right.group) == (("Drusen",), ("Cataract",), "007", "007")
    assert images([left, right], folder) == ["007_OS.JPG", "007_OD.JPG"]


def guessed(folder, capsys, text, name="t.csv"):
    """What --guess says of a table, and the records that its command reads."""
    if text is not None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main([str(folder), "--table", str(folder / name), "--guess", "--out", str(folder / "m.jsonl")]) == 0
    said = capsys.readouterr().out
    words = shlex.split(said.splitlines()[0])
    assert words[:3] == ["python", "-m", "mgll.readers.folder_csv"]
    assert main(words[3:]) == 0
    return said, list(read_manifest(folder / "m.jsonl"))


def test_a_guessed_command_reads_the_table_and_says_why(folder, capsys):
    said, records = guessed(folder, capsys, GERMAN.encode("cp1252"))
    assert [(record.group, record.labels) for record in records] == [
        ("Müller", ("Cataract",)),
        ("Schäfer", ("Health",)),
    ]
    for why in (
        "read as Windows-1252",
        "--image Bild: 2 of 2 cells are images of the folder",
        "--group Patient: its name; 2 different in 2 rows",
        "--labels Diagnose: 2 of 2 labels name a class",
        "not used: Größe",
    ):
        assert why in said


def test_guess_takes_people_for_groups_and_not_their_visits(folder, capsys):
    text = (
        "Fall-Nr.;Patient;Bild;Befund\n1;Müller;a.jpg;Drusen\n2;Müller;b.jpg;o.B.\n3;;left/1.jpg;diab. Retinopathie\n"
    )
    (folder / "t.csv").write_text(text, encoding="utf-8")
    assert mgll(["read", "folder-csv", str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mgll read folder-csv ")
    assert " --group Patient --empty-group own " in said
    assert "3 of 3 labels name a class" in said


def test_guess_finds_eyes_vocabulary_and_separator_of_odirs_layout(folder, capsys):
    said, records = guessed(folder, capsys, ODIR)
    assert {record.group for record in records} == {"5", "6", "7"}
    assert {record.labels for record in records} == {
        ("Health",),
        ("Moderate NPDR", "Cataract"),
        ("Drusen",),
        ("Glaucoma",),
    }
    assert "--eyes Left,Right" in said.splitlines()[0]
    assert "--vocabulary odir" in said.splitlines()[0]


def test_guess_finds_eyes_that_files_and_columns_call_otherwise(folder, capsys):
    said, (left, right) = guessed(folder, capsys, "Pat-ID;Diagnose RA;Diagnose LA\n007;Glaukom;trockene AMD\n")
    assert "--eyes 'OS|LA,OD|RA'" in said.splitlines()[0]
    assert (left.labels, right.labels, left.group, right.group) == (("Dry AMD",), ("Glaucoma",), "007", "007")
    assert images([left, right], folder) == ["007_OS.JPG", "007_OD.JPG"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("ID,DR,ARMD,MH\na,0,1,1\nb,1,0,0\nleft/1,0,0,0\n", [("AMD", "MH"), ("DR",), ()]),
        ("file;Glaucoma;Cataract;Comment\na;ja;;ok\nb;nein;x;ok\nleft/1;-;;ok\n", [("Glaucoma",), ("Cataract",), ()]),
        ("image;level\na;0\nb;4\nleft/1.jpg;2\n", [("No DR",), ("PDR",), ("Moderate NPDR",)]),
        (
            "Image Index,Finding Labels\na.jpg,Effusion|Mass\nb.jpg,No Finding\n",
            [("Effusion", "Mass"), ("No Finding",)],
        ),
    ],
)
def test_guess_knows_columns_of_1_and_0_grades_and_chest_radiographs(folder, capsys, text, labels):
    said, records = guessed(folder, capsys, text)
    assert [record.labels for record in records] == labels
    assert ("--classes chest_xray" in said) == ("Finding Labels" in text)


def test_guess_reads_a_column_that_mixes_words_and_grades(folder, capsys):
    said, records = guessed(folder, capsys, "file,grade\na.jpg,No DR\nb.jpg,2\n007_OD.JPG,PDR\n007_OS.JPG,0\n")
    assert "--vocabulary grade=icdr" in said.splitlines()[0]
    assert len(records) == 4
    assert all(record.labels for record in records)


def test_guess_proposes_no_command_that_would_lead_back_to_it(folder, capsys):
    (folder / "t.csv").write_text("file,grade\na.jpg,No DR\nb.jpg,77\n007_OD.JPG,PDR\n007_OS.JPG,0\n", encoding="utf-8")
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no command can be proposed")
    assert "column 'grade' mixes words with values ('0', '77')" in said


def test_guess_says_what_is_missing_where_nothing_fits(folder, capsys):
    assert main([str(folder / "nothing"), "--table", str(folder / "t.csv"), "--guess"]) == 1
    assert "no such folder" in capsys.readouterr().err
    (folder / "t.csv").write_text("x,y\n1,2\n")
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 1
    assert "no column names its 6 images (such as " in capsys.readouterr().err
    (folder / "t.csv").write_text("a.jpg,Drusen\nb.jpg,Cataract\n")
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 1
    assert "'a.jpg' of the first row is an image: the table has no header; add one" in capsys.readouterr().err
    names = ("a.jpg", "b.jpg", "left/1.jpg", "right/1.jpg")
    rows = "".join(f"{name},This is what is seen in {name}\n" for name in names)
    said, records = guessed(folder, capsys, f"file,comment\n{rows}")
    assert "no column holds names of classes" in said
    assert [len(record.texts["report"]) for record in records] == [1] * 4


def test_a_table_in_chinese_is_found_in_each_encoding_that_excel_writes(folder, capsys):
    text = "编号,病历号,诊断\na.jpg,7,青光眼\nb.jpg,8,正常\n"
    for encoding in ("gb18030", "utf-16", "utf-8"):
        (folder / "t.csv").write_bytes(text.encode(encoding))
        assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 0
        assert "--image '编号' --group '病历号' --labels '诊断'" in (said := capsys.readouterr().out)
        assert ("read as GB18030, such as '编号'" in said) == (encoding == "gb18030")
    records = read(folder, text.encode("gb18030"), "--image", "编号", "--group", "病历号", "--labels", "诊断")
    assert [record.labels for record in records] == [("Glaucoma",), ("Health",)]


def test_accents_side_by_side_are_not_taken_for_chinese(folder, capsys):
    assert len(read(folder, "Bild;Patient;Diagnose;Größe\na.jpg;Größel;POWG;1\n".encode("cp1252"), *FLAGS)) == 1
    assert "read as Windows-1252" in capsys.readouterr().out


def test_the_eye_in_a_column_is_part_of_the_name_of_its_image(folder, capsys):
    text = "Pat-Nr.;Auge;Befund\n007;OD;Katarakt\n007;OS;o.B.\n"
    (folder / "t.csv").write_text(text)
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 0
    said = capsys.readouterr().out
    assert "--image '{Pat-Nr.}_{Auge}.JPG' --group Pat-Nr. --labels Befund" in said
    assert "a row is about one eye; 2 of 2 rows name an image" in said
    records = read(folder, None, "--image", "{Pat-Nr.}_{Auge}.JPG", "--group", "Pat-Nr.", "--labels", "Befund")
    assert {record.image.rsplit("/")[-1]: record.labels for record in records} == {
        "007_OD.JPG": ("Cataract",),
        "007_OS.JPG": ("Health",),
    }
    assert {record.group for record in records} == {"007"}
    (folder / "t.csv").write_text(text.replace("OD", "rechts").replace("OS", "links"))
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 1
    assert "a row is about one eye (Auge: links, rechts), which the names of the images" in capsys.readouterr().err


def test_what_is_merged_over_rows_holds_for_each_of_them(folder, capsys):
    book = Workbook()
    for row in (["Bild", "Patient", "Diagnose"], ["a.jpg", "p1", "POAG"], ["b.jpg", None, None]):
        book.active.append(row)
    for column in (2, 3):
        book.active.merge_cells(start_row=2, end_row=3, start_column=column, end_column=column)
    book.save(folder / "t.xlsx")
    records = read(folder, None, *FLAGS, name="t.xlsx")
    assert [(record.group, record.labels) for record in records] == [("p1", ("Glaucoma",))] * 2
    assert "2 merged cells; each of their rows holds what the first holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "Bild;Diagnose\n1.jpg;POAG\n",
            "column 'Bild' names its images, but '1.jpg' may be 2 files (left/1.jpg, right/1.jpg)",
        ),
        (
            "Bild;Diagnose\na.jpg;POAG\nc.jpg;POAG\n",
            "the others are not there, the first is 'c.jpg'",
        ),
        ("Bild;Diagnose\na.jpg;POAG\nb.jpg;\n", "1 cells are empty, and their images get no label"),
        ("Bild;Diagnose\na.jpg;\nb.jpg;\n", "empty in all rows: Diagnose"),
        ("Bild;Patient\nleft/1.jpg;1\n", "no column holds names of classes (fundus, chest_xray); say"),
    ],
)
def test_guess_says_what_it_could_not_see(folder, capsys, table, said):
    (folder / "t.csv").write_text(table)
    main([str(folder), "--table", str(folder / "t.csv"), "--guess"])
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_guess_names_the_column_with_which_names_only_begin(tmp_path, capsys):
    for name in ("100_20210301_L.jpg", "100_20210301_R.jpg", "101_20210405_L.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text("PatID,Date\n100,2021-03-01\n101,2021-04-05\n")
    assert main([str(tmp_path), "--table", str(tmp_path / "t.csv"), "--guess"]) == 1
    assert (
        "PatID begins their names, but what follows differs: add a column with whole names" in capsys.readouterr().err
    )


def test_folders_that_are_called_like_classes_are_named(folder, capsys):
    (folder / "Glaucoma").mkdir()
    (folder / "left" / "1.jpg").rename(folder / "Glaucoma" / "1.jpg")
    (folder / "t.csv").write_text("Bild;Patient\nGlaucoma/1.jpg;1\n")
    assert main([str(folder), "--table", str(folder / "t.csv"), "--guess"]) == 0
    assert "but folders do (Glaucoma): write them into a column of the table" in capsys.readouterr().out


def test_archives_are_to_be_unpacked(folder, tmp_path_factory, capsys):
    only = tmp_path_factory.mktemp("only")
    with zipfile.ZipFile(only / "eyes.zip", "w") as archive:
        archive.write(folder / "a.jpg", "a.jpg")
    (folder / "t.csv").write_text(GERMAN)
    for images_in, table, said in (
        (only / "eyes.zip", folder / "t.csv", "eyes.zip: this is an archive; unpack it, and name the folder"),
        (only, folder / "t.csv", "no image file in this folder; it holds eyes.zip: unpack it"),
        (folder, only / "eyes.zip", "eyes.zip: this is an archive; unpack it, and name the table"),
        (folder / "t.csv", folder / "t.csv", "t.csv: this is a file; name the folder of the images"),
    ):
        assert main([str(images_in), "--table", str(table), "--guess"]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "Bild;Patient;Diagnose\na.jpg;1;\nb.jpg;2;\n",
            "label or a text from Diagnose: they are empty in all rows",
        ),
        ("Bild;Patient;Diagnose\n" + "".join(f"a.jpg;1;kind {n}\n" for n in range(9)), "; and 6 kinds more"),
        (
            "Bild;Patient;Diagnose\n" + "".join(f"z{n}.png;1;POAG\n" for n in range(9)),
            "no image to write: the image is not there",
        ),
        ("Bild;Patient;Befund\na.jpg;1;POAG\n", "columns ['Diagnose'] are missing"),
        ("Bild;Patient;Diagnosen\na.jpg;1;POAG\n", "did you mean Diagnosen?"),
    ],
)
def test_a_table_that_gives_nothing_ends_in_one_short_line(folder, capsys, table, said):
    assert read(folder, table, *FLAGS) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert len(error.replace(str(folder), "")) < 500
    assert not (folder / "m.jsonl").exists()


def test_the_table_itself_is_never_written_over(folder, capsys):
    (folder / "t.csv").write_text(GERMAN)
    for out, said in (("t.csv", "is another kind of file, which is not replaced"), ("left", "this is a folder")):
        assert main([str(folder), "--table", str(folder / "t.csv"), *FLAGS, "--out", str(folder / out)]) == 1
        assert said in capsys.readouterr().err
    assert (folder / "t.csv").read_text() == GERMAN
    assert (folder / "left" / "1.jpg").is_file()
