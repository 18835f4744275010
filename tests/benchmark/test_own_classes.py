"""Classes of another field than the fundus, from a table that is named once, to the reader, to the report."""

import csv
import json
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from benchmark.cases.building import build_cases
from benchmark.cases.case import read_cases
from benchmark.options.draw import draw
from benchmark.replies.parsing import parse_reply
from benchmark.run_mcq import run
from mgll.evaluation.zero_shot import class_prompts
from mgll.formats import FormatError
from mgll.manifest.__main__ import _main as manifest_command
from mgll.manifest.contradictions import contradictions_of
from mgll.manifest.records import read_manifest, write_manifest
from mgll.readers.class_tables import read_classes
from mgll.readers.folder_csv import main
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.labels import class_names

FINDINGS = ("Cardiomegaly", "Effusion", "Emphysema", "Hernia", "Pneumothorax", "No Finding")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Radiographs (noise) with ChestX-ray14's own columns, and their manifest."""
    folder = tmp_path_factory.mktemp("chest")
    rng = np.random.default_rng(0)
    with (folder / "t.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("Image Index", "Finding Labels", "Patient ID"))
        for number in range(72):
            name = f"{number:03d}.png"
            Image.fromarray(rng.integers(0, 255, (24, 24), dtype=np.uint8)).save(folder / name)
            label = FINDINGS[number % len(FINDINGS)]
            rows.writerow((name, f"{label}|Mass" if number % 12 == 1 else label, number))
    assert read(folder, "--classes", "chest_xray", "--shares", "0,0,1") == 0
    return folder


def read(folder, *flags, out="m.jsonl"):
    columns = (
        "--image",
        "Image Index",
        "--group",
        "Patient ID",
        "--labels",
        "Finding Labels",
        "--separator",
        "labels=|",
    )
    return main([str(folder), "--table", str(folder / "t.csv"), *columns, "--out", str(folder / out), *flags])


def test_the_table_goes_from_reader_to_report(folder, tmp_path, capsys):
    records = read_manifest(folder / "m.jsonl")
    assert records.table.name == records[0].table.name == "chest_xray"
    assert records[1].labels == ("Effusion", "Mass")
    assert records[1].texts["disease"] == ("abnormal", "Pleural Effusion", "Lung Mass")
    assert records[5].texts["disease"] == ("normal", "No Finding")
    cases, drawing = build_cases(folder / "m.jsonl", tmp_path / "cases.jsonl", min_images=3)
    assert {case.code for case in cases} <= {*FINDINGS, "Mass"}
    assert len(drawing.questions) == len(cases) > 40
    asked = read_cases(tmp_path / "cases.jsonl")
    assert [case.options for case in asked] == [case.options for case in cases]
    assert {case.table.name for case in asked} == {"chest_xray"}
    assert not any(case.ambiguous for case in asked)
    assert any("Pleural Effusion" in case.options for case in asked)
    card = (tmp_path / "cases.md").read_text()
    assert "the class table chest_xray" in card
    assert "Diabetic" not in card
    report = run("constant:A", tmp_path / "cases.jsonl", tmp_path / "run")
    assert report is not None
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Pleural Effusion" in page
    assert report.after.ten_present == ()
    assert "Media Haze" not in page


def test_whoever_writes_the_images_on_keeps_their_table(folder, tmp_path, capsys):
    write_manifest(tmp_path / "copy.jsonl", read_manifest(folder / "m.jsonl")[:10])
    assert read_manifest(tmp_path / "copy.jsonl").table is read_manifest(folder / "m.jsonl").table
    assert manifest_command(["describe", str(tmp_path / "copy.jsonl")]) == 0
    eyes = json.loads('{"image": "a.png", "split": "train", "group": "a", "texts": {}}')
    records = read_manifest(tmp_path / "copy.jsonl")
    assert pickle.loads(pickle.dumps(records))[0].labels == records[0].labels
    mixed = [records[0], records[0].model_validate(eyes)]
    with pytest.raises(ValueError, match="images of two class tables \\(chest_xray, fundus\\)"):
        write_manifest(tmp_path / "mixed.jsonl", mixed)


def test_a_healthy_lung_with_a_finding_is_a_contradiction_by_the_table(folder):
    record = read_manifest(folder / "m.jsonl")[5]
    torn = record.model_copy(update={"labels": ("No Finding", "Mass"), "texts": {}})
    assert contradictions_of(torn) == ("No Finding beside Mass",)
    assert contradictions_of(torn.model_copy(update={"labels": ("Mass", "Nodule")})) == ()


OWN = """name;synonyms;implies;excludes;may also be;explanation
Crack;fissure;Damage;;;A line through the enamel
Damage;;;;;The surface is not whole
Caries;cavity;Damage;;Stain;A dark hole
Stain;discoloration;;;;A dark spot
Sound;o.B.;;*;;Nothing to see
Tartar;calculus;;;;A hard layer
"""


def test_a_table_of_ones_own_says_what_goes_together(tmp_path):
    (tmp_path / "teeth.csv").write_text(OWN)
    table = read_classes(str(tmp_path / "teeth.csv"))
    assert table.normal == "Sound"
    assert table.possible(["Crack"]) == {"Crack", "Damage"}
    assert table.possible(["Caries"]) == {"Caries", "Damage", "Stain"}
    assert table.possible(["Damage"]) == {"Damage", "Crack", "Caries"}
    assert table.possible(["Sound"]) == {"Sound"}
    assert class_names(table)["fissure"] == "Crack"
    assert class_prompts("Crack", table=table)["disease"] == ("Crack",)
    sets = [(code,) for code in ("Crack", "Caries", "Stain", "Sound", "Tartar") for _ in range(8)]
    drawing = draw(sets, min_images=2, table=table)
    for question in drawing.questions:
        assert not (table.possible(sets[question.image]) & set(question.codes)) - {question.codes[question.answer]}
    assert {code for question in drawing.questions for code in question.codes} == {
        "Crack",
        "Caries",
        "Stain",
        "Sound",
        "Tartar",
    }
    with pytest.raises(ValueError, match="Table 14 and the paper's names are those of fundus photographs"):
        draw(sets, "paper", table14=True, table=table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,x\na,b\n", r"a class table has the column code or name, found \['label', 'x'\]"),
        ("name,because\na,b\n", r"columns \['because'\] are none of a class table's"),
        ("name,implies\na,b\n", "class 'a': implies names 'b', which no class of the table is called"),
        ("code,name\na,A\nb,A\n", "'a' is a name of two classes"),
        ("name,implies,excludes\na,b,b\nb,,\n", "class 'a' implies and excludes 'b'"),
        ("name,explanation\n,b\n", "class 1 has neither code nor name"),
        ("name,explanation\n", "expected 1 to 2000 classes, found 0"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_classes(str(tmp_path / "c.csv"))


def test_a_header_that_holds_no_table_and_a_label_of_another_field_are_refused(folder, tmp_path):
    lines = (folder / "m.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    for entry, message in (
        ([], "field classes: expected"),
        ({"name": "x", "rows": [{"implies": ["y"]}]}, "class 1 has neither"),
    ):
        (tmp_path / "m.jsonl").write_text("\n".join([json.dumps(header | {"classes": entry}), *lines[1:]]) + "\n")
        with pytest.raises(FormatError, match=message):
            read_manifest(tmp_path / "m.jsonl")
    images = [re.sub(r'"image": ?"', f'"image":"{folder}/', line) for line in lines[1:]]
    del header["classes"]
    (tmp_path / "m.jsonl").write_text("\n".join([json.dumps(header), *images]) + "\n")
    with pytest.raises(FormatError, match="no such class code: Cardiomegaly; these images have the classes of fundus"):
        build_cases(tmp_path / "m.jsonl", tmp_path / "cases.jsonl")


def test_a_reply_is_read_by_the_names_of_its_own_field():
    table = read_classes("chest_xray")
    options = ("Pleural Effusion", "Hernia", "Emphysema", "Cardiomegaly")
    assert parse_reply("Cardiomegaly", options, table).choice == 3
    assert parse_reply("Pneumothorax", options, table).choice is None
    assert parse_reply("B) Hiatal hernia", options, table).choice == 1


def test_the_shipped_chest_table_holds_the_14_classes_and_the_fundus_table_is_not_written(folder):
    table = read_classes("chest_xray")
    assert len(table.classes) == 15
    assert all(own.explanation for own in table.classes.values())
    assert FUNDUS.header() == {}
    assert read_classes("fundus") is FUNDUS
