"""Any number of runs side by side: numbers are those of the methods, seeds are named, not guessed, and every form says the same."""

import csv

import numpy as np
import pytest
from answered import run_about

from benchmark.cases.case import write_cases
from benchmark.cases.floor import questions_of
from benchmark.predictions.answers import answers_of
from benchmark.predictions.file import ComparisonError, Run, write_run
from benchmark.report.__main__ import main
from benchmark.report.content import build_report
from benchmark.report.many import side_by_side
from benchmark.report.many_files import named_runs
from benchmark.report.many_words import claim, headline
from benchmark.report.number_format import percent
from benchmark.stats.seeds import method_difference, method_number

WRONG = {"host": (2,), "clip": (3, 4), "mgll": (5, 6)}


@pytest.fixture(scope="module")
def cases(coloured_cases):
    return coloured_cases(48)


@pytest.fixture(scope="module")
def runs(cases) -> dict[str, list[Run]]:
    return {
        name: [run_about(cases, name, wrong, model_sha256=f"{name}{wrong}") for wrong in every]
        for name, every in WRONG.items()
    }


def test_numbers_and_differences_are_those_of_the_methods(cases, runs):
    found = side_by_side(cases, {"clip": runs["clip"], "mgll": runs["mgll"], "host": runs["host"]})
    questions, order = questions_of(cases), [case.id for case in cases]
    picked = {
        name: [answers.shares(answers.primary) for answers in (answers_of(run, order) for run in own)]
        for name, own in runs.items()
    }
    clip, mgll, host = found.methods
    for number in questions.totals():
        assert mgll.numbers[number.name] == method_number(number, questions, picked["mgll"])
        assert mgll.changes[number.name] == method_difference(number, questions, picked["clip"], picked["mgll"])
    assert clip.changes == {}
    assert np.isfinite(mgll.p)
    assert np.isnan(host.p)
    assert mgll.p_holm == mgll.p  # one test, so nothing to correct
    assert headline(found).startswith("Of 3 methods mgll answers the largest share of 48 questions correctly")
    assert "1 of 3 have one seed" in claim(found)
    alone = build_report(cases, runs["host"], draws=100)
    for code, share in alone.after.classes.items():  # a class has the interval of the run's own report
        estimate = host.numbers[f"accuracy of {code}"].estimate
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((share.accuracy, share.low, share.high))


def test_what_cannot_stand_side_by_side_is_refused(cases, runs, coloured_cases):
    (host,) = runs["host"]
    with pytest.raises(ComparisonError, match="2 runs of 'host' are of 1 sets of weights"):
        side_by_side(cases, {"host": [host, host]})
    blank = Run({**host.header, "images": "blank"}, host.predictions)
    with pytest.raises(ComparisonError, match="must have been shown the same"):
        side_by_side(cases, {"host": [host], "blank": [blank]})
    with pytest.raises(ComparisonError, match="answered other cases"):
        side_by_side(cases[:12], {"host": [host]})
    cut = Run({**host.header}, host.predictions[:9])
    with pytest.raises(ComparisonError, match="has 9 of the 48 answers"):
        side_by_side(cases, {"host": [cut]})


def test_the_command_writes_every_form_with_the_same_numbers(cases, runs, tmp_path, capsys):
    write_cases(tmp_path / "cases.jsonl", cases)
    given = []
    for name, own in runs.items():
        for seed, run in enumerate(own):
            write_run(tmp_path / f"{name}-{seed}.jsonl", run)
            given.append(f"{name}={tmp_path / f'{name}-{seed}.jsonl'}")
    out, told = tmp_path / "out", ["--cases", str(tmp_path / "cases.jsonl")]
    assert main([*given, *told, "--out", str(out)]) == 0
    assert "Of 3 methods mgll answers the largest share of 48 questions correctly" in capsys.readouterr().out
    forms = {"runs.html", "runs.md", "runs.tex", "runs.xlsx", "runs.csv", "runs.parquet", "methods.txt", "figures"}
    assert {path.name for path in out.iterdir()} == forms
    lines = list(csv.DictReader((out / "runs.csv").open()))
    overall = {line["method"]: float(line["value"]) for line in lines if line["number"] == "overall"}
    assert list(overall)[:3] == ["host", "clip", "mgll"]
    assert "rule: class frequency" in overall
    page, text, methods = ((out / name).read_text() for name in ("runs.html", "runs.md", "methods.txt"))
    for method, value in overall.items():
        assert percent(value) in page
        assert percent(value) in text
        if not method.startswith("rule"):
            assert f"{method} answered {percent(value)} correctly" in methods
    first = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert main([*given, *told, "--out", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == first


def test_names_that_nobody_could_tell_apart_and_flags_that_do_not_belong(runs, tmp_path, capsys):
    paths = [tmp_path / f"{name}.jsonl" for name in ("a", "b")]
    for path, run in zip(paths, runs["clip"], strict=True):
        write_run(path, run)
    assert named_runs([f"x={paths[0]}", f"x={paths[1]}"]) == {"x": [str(path) for path in paths]}
    assert named_runs([str(paths[0])]) == {"clip": [str(paths[0])]}
    with pytest.raises(ValueError, match="two runs are called clip; give each as NAME=RUN"):
        named_runs([str(path) for path in paths])
    with pytest.raises(ValueError, match="another run is called clip by its own file"):
        named_runs([str(paths[0]), f"clip={paths[1]}"])
    told = ["--cases", "c", "--out", "o"]
    for given, said in (
        ([], "give either runs to set side by side, or --after RUN"),
        (["a", "--after", "b"], "give either runs to set side by side, or --after RUN"),
        (["a", "--before", "b"], "--before: goes with --after"),
        (["a", "--no-images"], "--no-images: goes with --after"),
        (["a", "--paper", "llava", "--maps", "m"], "--paper, --maps: goes with --after"),
    ):
        with pytest.raises(SystemExit):
            main([*given, *told])
        assert said in capsys.readouterr().err
