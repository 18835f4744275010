"""The one command: it explains itself, scores, survives a kill, never mixes runs, and stops at a bad image."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import run_mcq
from benchmark.cases.case import read_cases, write_cases
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import FILE, ComparisonError, journal_path, read_run
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.scorer import ConstantLetter
from mgll.formats import FormatError
from mgll.images.preprocessing import ImageError

SCRIPT = Path(run_mcq.__file__)


def script(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


class Counting(ConstantLetter):
    """Says A, and remembers how often it was asked."""

    asked = 0

    def score(self, asks, views):
        self.asked += len(asks)
        return super().score(asks, views)


class OtherPrompt(ConstantLetter):
    def score(self, asks, views):
        return [
            [score._replace(prompt=f"USER: {score.prompt}") for score in scores]
            for scores in super().score(asks, views)
        ]


def test_without_arguments_it_says_what_to_type(tmp_path):
    said = script(folder=tmp_path)
    assert said.returncode == 0
    assert "python benchmark/run_mcq.py --model constant:A --cases demo" in said.stdout
    assert list(tmp_path.iterdir()) == []


class NotFinite(ConstantLetter):
    def score(self, asks, views):
        return [
            [score._replace(log_probs=(math.nan,) * 4) for score in scores] for scores in super().score(asks, views)
        ]


def test_a_model_that_gives_nan_ends_in_one_line(cases_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_mcq, "load_scorer", lambda *_, **__: NotFinite("A"))
    assert run_mcq.main(["--model", "constant:A", "--cases", str(cases_file), "--out", str(tmp_path)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "nan" in line]
    assert line.startswith("error: constant:A, case case-0")
    assert "check the checkpoint" in line


def test_a_run_to_compare_with_that_was_cut_is_refused_before_scoring(cases_file, tmp_path, capsys):
    given = ["--model", "constant:A", "--cases", str(cases_file)]
    assert run_mcq.main([*given, "--out", str(tmp_path / "a")]) == 0
    path = tmp_path / "a" / FILE
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0].replace(', "answers": 48', ""), *lines[1:31]]))  # cut, and of an earlier version
    assert run_mcq.main([*given, "--out", str(tmp_path / "b"), "--against", str(tmp_path / "a")]) == 1
    assert "has 30 of the 48 answers of these cases" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_help_needs_neither_torch_nor_pandas():
    code = (
        f"import runpy, sys; sys.argv = ['run_mcq.py', '--help']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    check = f"try:\n    exec({code!r})\nexcept SystemExit: pass\nassert not {{'torch', 'pandas', 'scipy'}} & set(sys.modules)"
    said = subprocess.run([sys.executable, "-c", "import sys\n" + check], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert "--against OUT" in said.stdout


@pytest.mark.slow
def test_a_run_from_anywhere_writes_its_files(cases_file, tmp_path):
    said = script("--model", "constant:B", "--cases", cases_file, "--out", "b", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "12 of 48 questions correctly" in " ".join(said.stdout.split())
    tables = {f"{name}.{kind}" for name in ("per_class", "per_case") for kind in ("csv", "parquet")}
    tables |= {"tables.tex", "tables.xlsx", "methods.txt", "figures"}
    names = {"predictions.jsonl", "report.html", "report.md", "run.json", *tables}
    assert {path.name for path in (tmp_path / "b").iterdir()} == names
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    assert record["settings"]["batch_size"] == 8
    assert record["provenance"]["git"]
    assert record["inputs_sha256"]["model"] == ConstantLetter("B").fingerprint


def test_rerunning_gives_the_same_bytes(cases_file, tmp_path):
    for name in ("first", "second"):
        run_mcq.run("constant:A", cases_file, tmp_path / name, against=None)
    for name in ("predictions.jsonl", "report.html", "report.md", "per_class.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(cases_file, tmp_path):
    slow = """
import sys, time
from pathlib import Path
from benchmark.cases import read_cases
from benchmark.scorers.scorer import ConstantLetter
from benchmark.predictions.batches import Asking
from benchmark.predictions.scoring import score_cases

class Slow(ConstantLetter):
    def score(self, asks, views):
        time.sleep(0.5)  # long enough that a busy machine still kills it on the way
        return super().score(asks, views)

score_cases(read_cases(sys.argv[1]), Slow("A"), Path(sys.argv[2]), Asking(batch_size=5))
"""
    process = subprocess.Popen([sys.executable, "-c", slow, str(cases_file), str(tmp_path / "killed")])
    journal = journal_path(tmp_path / "killed", 0)
    try:
        for _ in range(1200):
            if journal.exists() and journal.read_bytes().count(b"\n") > 11:
                break
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed" / FILE).exists()
    kept = journal.read_bytes().count(b"\n") - 1
    assert 10 < kept < 48
    with journal.open("ab") as file:  # as if the kill had come in the middle of a line
        file.write(b'{"case": "case-0')
    cases, scorer = read_cases(cases_file), Counting("A")
    score_cases(cases, scorer, tmp_path / "killed", Asking(batch_size=5))
    assert scorer.asked == 48 - kept // 5 * 5 + 5, "what remains, and the first batch as a check"
    score_cases(cases, ConstantLetter("A"), tmp_path / "whole", Asking(batch_size=5))
    assert (tmp_path / "killed" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert not journal.exists()


def test_a_finished_run_is_not_scored_again(cases_file, tmp_path):
    cases, scorer = read_cases(cases_file), Counting("A")
    score_cases(cases, scorer, tmp_path)
    score_cases(cases, scorer, tmp_path)
    assert scorer.asked == 48 + 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model", "made with other model"),
        ("images", "made with other images"),
        ("cases", "made with other cases"),
        ("prompt", "the host now asks with another prompt"),
    ],
)
def test_whatever_changes_the_answers_starts_anew_and_keeps_the_old_rows(cases_file, tmp_path, capsys, change, said):
    cases = read_cases(cases_file)
    score_cases(cases, ConstantLetter("A"), tmp_path)
    old = (tmp_path / FILE).read_bytes()
    scorer = {"model": ConstantLetter("B"), "prompt": OtherPrompt("A")}.get(change, ConstantLetter("A"))
    asking = Asking(images="blank" if change == "images" else "own")
    run = score_cases(cases[:-1] if change == "cases" else cases, scorer, tmp_path, asking)
    assert said in capsys.readouterr().err
    assert (tmp_path / "predictions.old-1.jsonl").read_bytes() == old
    assert read_run(tmp_path).predictions == run.predictions
    assert len(run.predictions) == (47 if change == "cases" else 48)


def test_a_damaged_journal_is_set_aside(cases_file, tmp_path, capsys):
    journal_path(tmp_path, 0).write_text("not a header\n")
    run = score_cases(read_cases(cases_file), ConstantLetter("A"), tmp_path)
    assert len(run.predictions) == 48
    assert "starting anew" in capsys.readouterr().err


def test_a_bad_image_stops_with_its_name_and_loses_nothing(coloured_cases, tmp_path, capsys):
    cases, file, out = coloured_cases(24, tmp_path), tmp_path / "cases.jsonl", tmp_path / "out"
    write_cases(file, cases)
    image = Path(cases[17].image)
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    arguments = ["--model", "constant:A", "--cases", str(file), "--out", str(out), "--batch-size", "4"]
    assert run_mcq.main(arguments) == 1
    assert f"error: case {cases[17].id}: {image}: damaged image" in capsys.readouterr().err
    kept = journal_path(out, 0).read_bytes().count(b"\n") - 1
    assert kept in (4, 8, 12, 16, 20), "whole batches"
    image.write_bytes(Path(cases[3].image).read_bytes())
    with pytest.raises(ImageError, match="is not the image that the case was made from"):
        run_mcq.run("constant:A", file, out, asking=Asking(batch_size=4))
    image.write_bytes(content)
    assert run_mcq.run("constant:A", file, out, asking=Asking(batch_size=4)).after.overall.n == 24


def test_against_a_run_over_other_cases_is_refused_before_scoring(cases_file, tmp_path, capsys):
    run_mcq.run("constant:A", cases_file, tmp_path / "before")
    fewer = read_cases(cases_file)[:24]
    write_cases(tmp_path / "fewer.jsonl", fewer)
    arguments = ["--model", "constant:B", "--cases", str(tmp_path / "fewer.jsonl"), "--out", str(tmp_path / "after")]
    assert run_mcq.main([*arguments, "--against", str(tmp_path / "before")]) == 1
    assert "'constant:A' answered other cases or questions than those to be asked" in capsys.readouterr().err
    assert not (tmp_path / "after").exists()


def test_hosts_that_wrap_the_question_differently_are_compared_only_on_request(cases_file, tmp_path):
    score_cases(read_cases(cases_file), OtherPrompt("A"), tmp_path / "before")
    with pytest.raises(ComparisonError, match=r"wrap the question differently \(48 of 48 cases\)"):
        run_mcq.run("constant:B", cases_file, tmp_path / "after", against=tmp_path / "before")
    report = run_mcq.run("constant:B", cases_file, tmp_path / "after", against=tmp_path / "before", any_prompt=True)
    assert report.notes == ("Not the same prompts: the hosts wrap the question differently (48 of 48 cases).",)
    assert report.notes[0] in (tmp_path / "after" / "report.md").read_text()


def test_what_is_no_model_is_said(cases_file, tmp_path):
    with pytest.raises(FormatError, match="no such directory; give a host"):
        run_mcq.run(str(tmp_path / "nothing"), cases_file, tmp_path / "out")
    said = script("--model", "constant:A")
    assert said.returncode == 2
    assert "--cases must be given" in said.stderr
