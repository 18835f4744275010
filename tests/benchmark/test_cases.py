"""Cases: the file survives moving and refuses what is wrong by line and field; building is deterministic and checks images."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cases.__main__ import _main
from benchmark.cases.building import build_cases
from benchmark.cases.case import SCHEMA, Case, check_images, read_cases, write_cases
from benchmark.cases.data_card import data_card
from benchmark.cases.demo import demo_cases
from benchmark.cases.giveaways import giveaway_warning, right_when_offered
from mgll.files import sha256
from mgll.formats import FormatError, read_header
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.vocabulary.diseases import diseases, true_codes
from mgll.vocabulary.questions import QUESTIONS

FINDINGS = [("Health",), ("Moderate NPDR",), ("AMD",), ("Glaucoma", "Cataract"), ("Cataract",), ("Glaucoma",), ("ERM",)]


def make_manifest(folder: Path, per_class: int = 6) -> Path:
    """Small photographs of noise with labels, two a patient, train and test."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    records = []
    for split in ("train", "test"):
        for number, labels in enumerate(FINDINGS * per_class):
            name = f"images/{split}{number}.png"
            Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(folder / name)
            group = f"{split}-patient{number // 2}"
            records.append(
                Record(
                    image=name,
                    split=split,
                    group=group,
                    texts={},
                    labels=labels,
                    source="S0",
                    licence="CC BY 4.0 |\nas printed",
                )
            )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("photographs"))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def built(tmp_path: Path) -> Path:
    manifest = make_manifest(tmp_path / "photographs", 3)
    build_cases(manifest, tmp_path / "photographs" / "cases.jsonl", count=8, min_images=3)
    return tmp_path / "photographs" / "cases.jsonl"


def test_built_cases_are_about_their_images(manifest, tmp_path):
    cases, drawing = build_cases(manifest, tmp_path / "cases.jsonl", seed=4)
    assert read_cases(tmp_path / "cases.jsonl") == [
        case.model_copy(update={"image": read.image})
        for case, read in zip(cases, read_cases(tmp_path / "cases.jsonl"), strict=True)
    ]
    labels = {Path(record.image).resolve(): record for record in read_manifest(manifest, "test")}
    for case in read_cases(tmp_path / "cases.jsonl"):
        record = labels[Path(case.image).resolve()]
        held = true_codes(record.labels)
        assert case.code in held
        assert not held & (set(case.option_codes) - {case.code})
        assert (case.group, case.source) == (record.group, record.source)
        assert case.options[case.answer] == diseases()[case.code].name
        assert case.question in QUESTIONS
    assert set(Counter(case.question for case in cases)) == set(QUESTIONS)
    assert set(drawing.shares) == {"Health", "DR", "AMD", "Glaucoma", "Cataract", "ERM"}
    assert check_images(tmp_path / "cases.jsonl") == []


def test_images_whose_labels_contradict_are_not_asked_about(manifest, tmp_path, capsys):
    records = [record.model_copy(update={"image": Path(record.image).name}) for record in read_manifest(manifest)]
    healthy = [record for record in records if record.labels == ("Health",)]
    wrong = {healthy[0].image: ("Health", "Glaucoma"), healthy[-1].image: ("Mild NPDR", "PDR")}
    shutil.copytree(manifest.parent / "images", tmp_path, dirs_exist_ok=True)
    changed = [record.model_copy(update={"labels": wrong.get(record.image, record.labels)}) for record in records]
    write_manifest(tmp_path / "m.jsonl", changed)
    flags = ["--manifest", str(tmp_path / "m.jsonl"), "--split", "all", "--min-images", "3"]

    def build(name, *more):
        assert _main(["build", "--out", str(tmp_path / name), *flags, *more]) == 0
        asked = {Path(case.image).name for case in read_cases(tmp_path / name)}
        return asked, read_header(tmp_path / name, SCHEMA), capsys.readouterr().out

    asked, header, out = build("c.jsonl")
    assert not asked & wrong.keys()
    assert header["contradictory"] == {"Health beside Glaucoma": 1, "Mild NPDR beside PDR": 1}
    assert "left out: contradictory labels: Health beside Glaucoma: 1 images" in out
    assert "left out for contradictory labels: Health beside Glaucoma (1 images)" in (tmp_path / "c.md").read_text()
    asked, header, out = build("kept.jsonl", "--contradictory", "keep", "--count", "400")
    assert asked & wrong.keys()
    assert "contradictory" not in header


def test_same_arguments_same_bytes(manifest, tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        build_cases(manifest, tmp_path / name, kind="paper", count=30, seed=9)
    build_cases(manifest, tmp_path / "c.jsonl", kind="paper", count=30, seed=10)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "c.jsonl").read_bytes()


def test_the_data_card_says_what_is_in_the_file(manifest, tmp_path):
    cases, _ = build_cases(manifest, tmp_path / "cases.jsonl", kind="paper", clean=False, count=30, seed=3)
    card = (tmp_path / "cases.md").read_text(encoding="utf-8")
    assert "Research use only, not for diagnosis" in card
    assert sha256(tmp_path / "cases.jsonl") in card
    assert sha256(manifest) in card
    rows = {cells[1]: cells for line in card.splitlines() if (cells := [cell.strip() for cell in line.split("|")])[2:]}
    for code, number in Counter(case.code for case in cases).items():
        assert rows[code][3] == str(number)
    assert rows["DR"][4] == "149"
    assert int(rows["DR"][7]) == sum("DR" in case.option_codes for case in cases)
    assert rows["S0"][4] == str(sum(case.source == "S0" for case in cases))
    assert "| CC BY 4.0 \\| as printed |" in card  # a bar would end the cell
    ambiguous = sum(bool(case.ambiguous) for case in cases)
    assert ambiguous > 0
    assert f"{ambiguous} cases have a distractor that holds or may hold" in card
    assert "A 8, B 8, C 7, D 7; chi-square test against a quarter each: p = 0.988" in card
    assert "some hold for the image too" in card


def test_classes_that_give_the_answer_away_are_warned_of(manifest, tmp_path):
    cases, _ = build_cases(manifest, tmp_path / "cases.jsonl", count=30, seed=3)
    assert giveaway_warning(cases) == ""
    right = right_when_offered(cases)
    assert sum(counts[0] for counts in right.values()) == 30
    assert sum(counts[1] for counts in right.values()) == 120
    others = [
        case.model_copy(update={"option_codes": ("Health", "AMD", "No DME", "CSR"), "answer": 2}) for case in cases
    ]
    given = [case.model_copy(update={"code": "No DME"}) for case in others[:5]]
    warning = giveaway_warning(given)
    assert "No DME (5 of 5)" in warning
    assert "AMD" not in warning
    assert giveaway_warning(given[:4]) == "", "four offers are too few to say"
    assert "No DME (5 of 6)" in giveaway_warning([*given, others[5].model_copy(update={"code": "AMD"})])
    assert giveaway_warning([*given[:5], *(other.model_copy(update={"code": "AMD"}) for other in others[5:7])]) == ""
    card = data_card(tmp_path / "cases.jsonl", given, {}, [])
    assert "**Warning**: the options give the answer away" in card
    rows = {cells[1]: cells for line in card.splitlines() if (cells := [cell.strip() for cell in line.split("|")])[2:]}
    assert (rows["code"][8], rows["No DME"][7:9], rows["AMD"][8]) == ("right when offered", ["5", "100%"], "0%")


def test_the_build_commands_warn_of_classes_that_give_the_answer_away(manifest, tmp_path, capsys):
    command = ["build", "--manifest", str(manifest), "--out", str(tmp_path / "cases.jsonl"), "--count", "30"]
    assert _main([*command, "--options", "paper", "--seed", "3"]) == 0
    cases = read_cases(tmp_path / "cases.jsonl")
    right = sum(case.code == "Glaucoma" for case in cases)
    offered = sum("Glaucoma" in case.option_codes for case in cases)
    named = f"Glaucoma ({right} of {offered})"
    assert right >= 0.75 * offered
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: the options give")]
    assert named in warning
    assert named in (tmp_path / "cases.md").read_text()
    assert _main(command) == 0
    assert "give the answer away" not in capsys.readouterr().out
    assert "give the answer away" not in (tmp_path / "cases.md").read_text()


def test_html_in_the_words_of_a_source_is_text_in_the_data_card(manifest, tmp_path):
    cases, _ = build_cases(manifest, tmp_path / "cases.jsonl", count=8, min_images=3)
    record = read_manifest(manifest, "test")[0].model_copy(
        update={"source": "<script>alert(1)</script>", "licence": "![x](http://x) `a` <b>"}
    )
    cases[0] = cases[0].model_copy(update={"question": "Is it <i>this</i>?", "code": "<u>"})
    card = data_card(tmp_path / "cases.jsonl", cases, {"options": "<s>", "left_out": {"<em>": "<q>"}}, [record])
    assert "&lt;script>alert(1)&lt;/script>" in card
    assert "!\\[x\\](http://x)" in card
    assert re.findall(r"<[A-Za-z/!?]", card) == []


def test_table_14_is_built_or_refused_class_by_class(manifest, tmp_path, capsys):
    out = tmp_path / "cases.jsonl"
    command = ["build", "--manifest", str(manifest), "--out", str(out), "--options", "paper", "--table14"]
    assert _main(command) == 1
    assert "DR: have 6, need 149; Drusen: have 0, need 30" in capsys.readouterr().err
    assert not out.exists()
    assert _main([*command, "--allow-short", "--count", "100"]) == 0
    assert "short: Drusen: 0 of 1" in capsys.readouterr().out
    assert read_header(out, SCHEMA)["short"]["Drusen"] == [0, 1]
    assert "Drusen 0 of 1" in out.with_suffix(".md").read_text(encoding="utf-8")
    images = [case.image for case in read_cases(out)]
    assert len(set(images)) == len(images)


def test_training_questions_come_from_the_training_split(manifest, tmp_path):
    train, _ = build_cases(manifest, tmp_path / "train.jsonl", split="train")
    test, _ = build_cases(manifest, tmp_path / "test.jsonl", split="test")
    assert all(case.group.startswith("train-") for case in train)
    assert not {case.group for case in train} & {case.group for case in test}


def test_paths_are_relative_to_the_file_and_survive_moving_the_folder(built, tmp_path):
    assert lines_of(built)[1]["image"].startswith("images/")
    moved = tmp_path / "elsewhere"
    shutil.move(built.parent, moved)
    assert check_images(moved / "cases.jsonl") == []
    write_cases(tmp_path / "deep" / "er" / "cases.jsonl", read_cases(moved / "cases.jsonl"))
    assert check_images(tmp_path / "deep" / "er" / "cases.jsonl") == []
    assert lines_of(tmp_path / "deep" / "er" / "cases.jsonl")[1]["image"].startswith("../../elsewhere/images/")


def test_paths_are_written_right_from_another_working_folder(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = read_cases("photographs/cases.jsonl")
    write_cases("copy/cases.jsonl", cases)
    assert check_images("copy/cases.jsonl") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"answer": 4}, "field answer"),
        ({"answer": -1}, "field answer"),
        ({"answer": "1"}, "field answer"),
        ({"answer": None}, "field answer"),
        ({"options": ["Health", "health ", "Glaucoma", "Cataract"]}, "field options"),
        ({"options": ["Health", "", "Glaucoma", "Cataract"]}, "field options"),
        ({"options": ["Health", "Glaucoma", "Cataract"]}, "field options"),
        ({"option_codes": ["Health", "Health", "Glaucoma", "Cataract"]}, "field option_codes"),
        ({"options": ["Drusen", "Myopia", "Glaucoma", "Media Haze"]}, "field option_codes"),
        ({"option_codes": ["mine", "Health", "Glaucoma", "Cataract"]}, "field option_codes"),
        ({"code": "BRVO"}, "field code"),
        ({"image_sha256": "abc"}, "field image_sha256"),
        ({"image": ""}, "field image"),
        ({"id": ""}, "field id"),
        ({"labels": ["Chorioretinitis"]}, "field labels"),
        ({"surplus": 1}, "field surplus"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(built, change, field, capsys):
    lines = lines_of(built)
    lines[3].update(change)
    write_lines(built, lines)
    with pytest.raises(FormatError, match=f"line 4: .*{field}"):
        read_cases(built)
    assert _main(["validate", str(built)]) == 1
    message = capsys.readouterr().err
    assert "line 4" in message
    assert field in message


def test_options_of_unknown_codes_are_allowed(built):
    lines = lines_of(built)
    lines[1].update(options=["Left", "Right", "Both", "None"], option_codes=["L", "R", "LR", "-"], code="LR", answer=2)
    assert read_cases(write_lines(built, lines))[0].code == "LR"


def test_distractors_that_may_hold_are_counted(built, capsys):
    lines = lines_of(built)
    for line in lines[1:3]:
        line.update(options=["Myopia", "Tessellation", "Glaucoma", "Cataract"])
        line.update(option_codes=["Myopia", "Tessellation", "Glaucoma", "Cataract"], answer=0, code="Myopia")
    lines[1]["labels"], lines[2]["labels"] = ["Myopia", "Cataract"], []
    cases = read_cases(write_lines(built, lines))
    assert cases[0].ambiguous == {"Tessellation", "Cataract"}
    assert cases[1].ambiguous == {"Tessellation"}  # by the answer alone
    assert _main(["validate", str(built)]) == 0
    assert "ambiguous: 2 cases" in capsys.readouterr().out


def test_an_answer_that_stands_mostly_at_one_letter_is_warned_of(manifest, tmp_path, capsys):
    build_cases(manifest, tmp_path / "cases.jsonl", count=40)
    assert _main(["validate", str(tmp_path / "cases.jsonl")]) == 0
    assert "warning" not in capsys.readouterr().out
    lines = lines_of(tmp_path / "cases.jsonl")
    for line in lines[1:]:
        for field in ("options", "option_codes"):
            line[field].insert(0, line[field].pop(line["answer"]))
        line["answer"] = 0
    assert _main(["validate", str(write_lines(tmp_path / "cases.jsonl", lines))]) == 0
    assert "warning: answers are not spread evenly" in capsys.readouterr().out


def test_double_ids_are_named_with_both_lines(built):
    lines = lines_of(built)
    lines[5]["id"] = lines[2]["id"]
    write_lines(built, lines)
    with pytest.raises(FormatError, match=r"line 6: field id: .* stands in line 3 too"):
        read_cases(built)


def test_a_file_cut_short_is_not_a_smaller_one(built, capsys):
    lines = lines_of(built)
    write_lines(built, lines[:4])
    with pytest.raises(
        FormatError, match="line 1: field count: the header says 8 lines, found 3; the file was cut short"
    ):
        read_cases(built)
    assert _main(["validate", str(built)]) == 1
    assert "found 3" in capsys.readouterr().err
    write_lines(built, [*lines, lines[1] | {"id": "more"}])
    with pytest.raises(FormatError, match="says 8 lines, found 9"):
        read_cases(built)
    del lines[0]["count"]
    assert len(read_cases(write_lines(built, lines[:4]))) == 3


def test_missing_and_changed_images_are_named(built, capsys):
    lines = lines_of(built)
    image, other = (built.parent / lines[number]["image"] for number in (1, 2))
    image.write_bytes(image.read_bytes() + b"x")
    other.unlink()
    assert _main(["validate", str(built)]) == 1
    message = capsys.readouterr().err
    assert "line 2: field image_sha256" in message
    assert "line 3: field image: " in message
    assert "No such file" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the first line must be a header"),
        (b"\x89PNG\r\n\x1a\n\x00", "line 1: not UTF-8 text"),
        (b'{"schema": "mgll.manifest/1"}\n', f"{SCHEMA}.*found 'mgll.manifest/1'"),
        (b'{"schema": "mgll.cases/1"}\n', "no case"),
        (b'{"schema": "mgll.cases/1"}\n\n{"id": "1",\n', "line 3"),
        (b'{"schema": "mgll.cases/1"}\n[]\n', "line 2"),
        (b'{"schema": "mgll.cases/1"}\n' + b"[" * 100_000 + b"\n", "line 2"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_files_that_are_no_cases(tmp_path, content, message):
    (tmp_path / "cases.jsonl").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_cases(tmp_path / "cases.jsonl")


VALID = {
    "id": "1",
    "image": "a.png",
    "image_sha256": "0" * 64,
    "group": "g",
    "source": "s",
    "question": "q?",
    "options": ["Health", "Drusen", "Glaucoma", "Cataract"],
    "option_codes": ["Health", "Drusen", "Glaucoma", "Cataract"],
    "answer": 1,
    "code": "Drusen",
}


def test_image_paths_that_no_file_can_have_are_errors_with_their_line(tmp_path):
    names = ["a" * 5000, "nul\0.png", ".", "missing/b.png"]
    lines = [{"schema": SCHEMA}, *(VALID | {"id": str(number), "image": name} for number, name in enumerate(names))]
    errors = check_images(write_lines(tmp_path / "cases.jsonl", lines))
    assert [error.line for error in errors] == [2, 3, 4, 5]


def test_an_unusable_image_stops_the_build_and_nothing_is_written(tmp_path, capsys):
    manifest = make_manifest(tmp_path / "photographs", 3)
    broken = Path(read_manifest(manifest, "test")[0].image)
    broken.write_bytes(broken.read_bytes()[:60])
    out = tmp_path / "cases.jsonl"
    assert _main(["build", "--manifest", str(manifest), "--out", str(out), "--min-images", "3"]) == 1
    assert broken.name in capsys.readouterr().err
    assert not out.exists()


def test_unknown_labels_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    write_manifest(
        tmp_path / "manifest.jsonl", [Record(image="a.png", split="test", group="1", texts={}, labels=("DR", "Dragon"))]
    )
    with pytest.raises(FormatError, match="no such class code: Dragon"):
        build_cases(tmp_path / "manifest.jsonl", tmp_path / "cases.jsonl")


def test_build_command_says_what_it_left_out_and_the_floor(manifest, tmp_path, capsys):
    out = tmp_path / "cases.jsonl"
    command = [
        "build",
        "--manifest",
        str(manifest),
        "--out",
        str(out),
        "--count",
        "40",
        "--seed",
        "2",
        "--split",
        "test",
    ]
    assert _main([*command, "--classes", "Health,DR,AMD,Cataract,Glaucoma,CSR"]) == 0
    shown = capsys.readouterr().out
    assert "40 cases" in shown
    assert "left out: CSR: no image" in shown
    assert "left out: ERM: not among the chosen classes" in shown
    assert "25.0% overall" in shown
    assert read_header(out, SCHEMA)["left_out"]["CSR"] == "no image"
    assert _main(["validate", str(out)]) == 0
    assert _main([*command, "--options", "paper", "--distractors", "paper"]) == 0
    assert "without looking, source only" in capsys.readouterr().out


def test_missing_files_are_messages_not_tracebacks(tmp_path, capsys):
    assert _main(["validate", str(tmp_path / "none.jsonl")]) == 1
    assert _main(["build", "--manifest", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "c.jsonl")]) == 1
    assert capsys.readouterr().err.count("no such file") == 2


@pytest.mark.slow
def test_demo_cases_are_drawn_and_found_again(tmp_path):
    path = demo_cases(tmp_path / "one")
    assert check_images(path) == []
    assert len(read_cases(path)) == 96
    drawn = path.stat().st_mtime_ns
    assert demo_cases(tmp_path / "one") == path
    assert path.stat().st_mtime_ns == drawn
    assert demo_cases(tmp_path / "two").read_bytes() == path.read_bytes()


def test_help_needs_no_torch():
    code = (
        "import sys; import benchmark.cases.__main__ as c\ntry: c._main(['build', '--help'])\nexcept SystemExit: pass\n"
    )
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_real_photographs_make_cases_that_no_prior_answers(fundus_folder):
    from floor_by_hand import floor_of

    from benchmark.options.draw import class_counts, draw
    from mgll.readers.fundus_folder import read_fundus_folder

    records = [record for record in read_fundus_folder(fundus_folder)[0] if record.split == "test"]
    labels = [record.labels for record in records]
    floors = {}
    for kind in ("paper", "balanced"):
        questions = draw(labels, kind, count=2000).questions
        floors[kind] = floor_of([q.codes for q in questions], [q.answer for q in questions], class_counts(labels), kind)
    assert floors["balanced"].overall == 0.25
    assert floors["paper"].overall > 0.7


def test_case_is_immutable():
    case = Case.model_validate(VALID)
    with pytest.raises(ValueError, match="frozen"):
        case.answer = 2
