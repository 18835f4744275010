"""The predictions file: round trip, wrong files named by line and field, runs that may and may not be compared."""

import json
import math
import subprocess
import sys

import pytest

from benchmark.predictions.__main__ import _main as check
from benchmark.predictions.file import FILE, Prediction, Run, differences, journal_path, read_run, write_run
from mgll.formats import FormatError


def row(number: int, chosen: int = 0, **changes: object) -> Prediction:
    probabilities = [0.1, 0.1, 0.1, 0.1]
    probabilities[chosen] = 0.7
    values = {
        "case": f"case-{number}",
        "rotation": 0,
        "log_probs": tuple(math.log(p) for p in probabilities),
        "text": "A",
        "chosen": chosen,
        "answer": number % 4,
        "code": "DR",
        "group": f"patient-{number}",
        "source": "somewhere",
        "prompt_sha256": "0" * 64,
    }
    return Prediction(**{**values, **changes})


def run(rows: list[Prediction], **changes: object) -> Run:
    header = {
        "model": "m",
        "model_sha256": "1",
        "cases_sha256": "2",
        "questions_sha256": "3",
        "images": "own",
        "rotations": 1,
        "views": ["letter"],
    }
    return Run({**header, **changes}, tuple(rows))


def test_a_written_run_comes_back_the_same(tmp_path):
    written = run([row(number, number % 4) for number in range(9)], extra="kept")
    write_run(tmp_path / FILE, written)
    assert read_run(tmp_path / FILE).predictions == written.predictions
    assert read_run(tmp_path).header == {"schema": "mgll.predictions/2", **written.header}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("log_probs", [0.0, 0.0, 0.0, 0.0], "sum to 4.0000"),
        ("log_probs", [-1.0, -1.0, -1.0], "log_probs.3"),
        ("log_probs", [None, -1.0, -1.0, -1.0], "log_probs.0"),
        ("log_probs", [900.0, -1.0, -1.0, -1.0], "sum to"),
        ("chosen", 3, "chosen is 3, but the answer that counts is 0"),
        ("chosen", 4, "chosen"),
        ("answer", -1, "answer"),
        ("answer", True, "answer"),
        ("rotation", 24, "rotation"),
        ("prompt_sha256", "abc", "prompt_sha256"),
        ("surplus", 1, "surplus"),
        ("case", "case-0", "stands in line 2 too"),
    ],
)
def test_a_wrong_row_is_named_by_line_and_field(tmp_path, field, value, said):
    path = tmp_path / FILE
    write_run(path, run([row(0), row(1)]))
    lines = path.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), field: value})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match="line 3") as error:
        read_run(path)
    assert said in str(error.value)


def test_a_header_that_lacks_what_tells_runs_apart_is_refused(tmp_path):
    (tmp_path / FILE).write_text('{"schema": "mgll.predictions/2", "model": "m"}\n' + row(0).model_dump_json() + "\n")
    with pytest.raises(FormatError, match=r"line 1: the header lacks model_sha256, cases_sha256"):
        read_run(tmp_path)


def test_an_unfinished_run_is_not_read_as_a_finished_one(tmp_path):
    write_run(journal_path(tmp_path, 0), run([row(0)]))
    with pytest.raises(FormatError, match="has not finished"):
        read_run(tmp_path)


def test_a_cut_file_is_refused_by_the_count_in_its_header(tmp_path, capsys):
    write_run(tmp_path / FILE, run([row(number) for number in range(5)], answers=5))
    assert len(read_run(tmp_path).predictions) == 5
    lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
    (tmp_path / FILE).write_text("".join(lines[:4]))
    with pytest.raises(FormatError, match=r"3 predictions, but the header says 5: the file was cut") as error:
        read_run(tmp_path)
    assert "--out" in str(error.value)
    assert "\n" not in str(error.value)
    assert check(["validate", str(tmp_path / FILE)]) == 1
    assert "the header says 5" in "".join(capsys.readouterr())


def test_options_that_tie_leave_no_choice_and_old_files_are_read_so(tmp_path):
    log_probs = tuple(math.log(p) for p in (0.4, 0.4, 0.1, 0.1))
    tied = Prediction(**{**row(0).model_dump(), "log_probs": log_probs, "chosen": None, "tied": True})
    assert (tied.chosen, tied.tied, tied.correct) == (None, True, False)
    path = tmp_path / FILE
    write_run(path, run([tied]))
    old = json.loads(path.read_text().splitlines()[1])
    assert old.pop("tied")
    header = path.read_text().splitlines()[0]
    path.write_text(header + "\n" + json.dumps({**old, "chosen": 0}) + "\n")
    assert read_run(path).predictions == (tied,)
    for wrong in ({"chosen": 1}, {"chosen": 0, "tied": True}):
        path.write_text(header + "\n" + json.dumps({**old, **wrong}) + "\n")
        with pytest.raises(FormatError, match=r"line 2: .*counts is none: several options tie"):
            read_run(path)
    with pytest.raises(ValueError, match="tied is True"):
        row(0, tied=True)


def test_the_validate_command(tmp_path):
    write_run(tmp_path / FILE, run([row(0), row(1)]))
    command = [sys.executable, "-m", "benchmark.predictions", "validate"]
    good = subprocess.run([*command, tmp_path / FILE], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout.split(": ")[1].strip()) == (0, "2 predictions of m, 1 correct, valid")
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text() + '{"case": "x"}\n')
    bad = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "line 4: field rotation: Field required" in bad.stderr


def test_runs_differ_in_cases_questions_or_prompts():
    ours = run([row(0), row(1)])
    assert differences(ours, run([row(0), row(1, 2)], model="other", model_sha256="9")) == []
    assert differences(ours, run([row(0), row(2)]))[0].startswith("cases: 1 only in 'm', 1 only in 'm'")
    assert differences(ours, run([row(0), row(1)], cases_sha256="x"))[0].startswith("cases: same ids")
    assert differences(ours, run([row(0), row(1)], questions_sha256="x"))[0].startswith("questions:")
    wrapped = run([row(0), row(1, prompt_sha256="f" * 64)])
    assert "(1 of 2 cases)" in differences(ours, wrapped)[0]
    assert differences(ours, wrapped, prompts=False) == []
