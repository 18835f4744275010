"""Sets too small for their splits: what is possible is said, the rest is built, and folds over patients ask about every image."""

import importlib
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cases.case import read_cases
from benchmark.cases.overlap import OverlapError
from benchmark.cases.small_sets import cross_fit
from benchmark.predictions.__main__ import _main as predictions
from benchmark.predictions.file import ComparisonError, read_run
from benchmark.predictions.joining import join_runs
from benchmark.report.writing import report_runs
from benchmark.run_mcq import run
from mgll.manifest.records import Record, read_manifest, write_manifest

RECIPES = Path(__file__).parents[2] / "recipes"
CLASSES = ("Health", "DR", "Glaucoma", "Cataract", "AMD", "Drusen")
#: Of twelve images a class two are tested and one validates, as by the usual shares.
SPLITS = ("train",) * 9 + ("val", "test", "test")


@pytest.fixture
def manifest(tmp_path):
    records = []
    for number in range(12 * len(CLASSES)):
        label, of_class = CLASSES[number % len(CLASSES)], number // len(CLASSES)
        Image.effect_noise((48, 48), 90).save(tmp_path / f"{number}.png")
        entries = {"texts": {"disease": (label,)}, "labels": (label,)}
        records.append(Record(image=f"{number}.png", split=SPLITS[of_class], group=f"p{number}", **entries))
    # some patients have two photographs
    records[60:66] = [
        one.model_copy(update={"group": f"p{place}"}) for place, one in enumerate(records[60:66], start=66)
    ]
    write_manifest(tmp_path / "m.jsonl", records)
    return tmp_path / "m.jsonl"


def build(monkeypatch, *flags):
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.setattr("sys.argv", ["build_benchmark.py", *map(str, flags)])
    return importlib.import_module("build_benchmark").main()


def test_what_can_be_built_is_built_and_what_is_possible_is_said(manifest, tmp_path, monkeypatch, capsys):
    out = tmp_path / "q"
    out.mkdir()
    (out / "test.jsonl").write_text("of an earlier manifest")
    assert build(monkeypatch, "--manifest", manifest, "--out", out) == 1
    said = capsys.readouterr()
    assert "val.jsonl: not built: " in said.out
    assert "test.jsonl: not built: " in said.out
    assert "--min-images 2 gives 12 questions about 6 classes (a class needs 2 images, not 5; noisy)" in said.err
    assert (
        "--cross-fit 5 asks about all 72 images in turn, by models that learned from others: 72 questions" in said.err
    )
    assert len(said.err.splitlines()) == 1
    assert read_cases(out / "train.jsonl")
    assert not (out / "test.jsonl").exists()
    assert build(monkeypatch, "--manifest", manifest, "--out", out, "--min_images", 2) == 0
    said = capsys.readouterr()
    assert "val.jsonl: not built: " in said.out  # one image a class: a validation split is no must
    assert "--min-images 1 gives 6 questions" in said.out
    assert len(read_cases(out / "test.jsonl")) == 12


def test_folds_ask_about_every_image_and_keep_patients_together(manifest, tmp_path, monkeypatch, capsys):
    out = tmp_path / "q"
    assert build(monkeypatch, "--manifest", manifest, "--out", out, "--cross_fit", 3) == 0
    assert "fold-2: 24 images, " in capsys.readouterr().out
    cases = read_cases(out / "test.jsonl")
    assert len({case.image_sha256 for case in cases}) == 72
    parts = [read_cases(out / f"fold-{number}" / "test.jsonl") for number in range(3)]
    assert sorted(case.id for part in parts for case in part) == sorted(case.id for case in cases)
    for number, part in enumerate(parts):
        records = read_manifest(out / f"fold-{number}" / "manifest.jsonl")
        patients = {split: {r.patient for r in records if r.split == split} for split in ("train", "test")}
        assert not patients["train"] & patients["test"]
        assert {("", case.group) for case in part} <= patients["test"]
        training = read_cases(out / f"fold-{number}" / "train.jsonl")
        assert {("", case.group) for case in training} <= patients["train"]
        assert set(Counter(case.code for case in part)) == set(CLASSES)
    again = tmp_path / "again"
    assert build(monkeypatch, "--manifest", manifest, "--out", again, "--cross_fit", 3) == 0
    assert [case.id for case in read_cases(again / "fold-1" / "test.jsonl")] == [case.id for case in parts[1]]


def test_the_runs_over_all_folds_become_one_run_with_a_report(manifest, tmp_path, capsys):
    cases, folds = cross_fit(manifest, tmp_path / "q", 3)
    runs = [tmp_path / f"run-{number}" for number in range(3)]
    for fold, out in zip(folds, runs, strict=True):
        run("constant:A", fold.folder / "test.jsonl", out)
    joined = ["join", *map(str, runs), "--cases", str(tmp_path / "q" / "test.jsonl"), "--out", str(tmp_path / "joined")]
    assert predictions(joined) == 0
    assert predictions(["validate", str(tmp_path / "joined")]) == 0
    found = read_run(tmp_path / "joined")
    assert len(found.header["folds"]) == 3
    report = report_runs(tmp_path / "report", tmp_path / "q" / "test.jsonl", tmp_path / "joined")
    assert report.after.name == "constant:A"
    assert sum(row.correct for row in found.predictions) == sum(case.answer == 0 for case in cases)
    with pytest.raises(ComparisonError, match=r"has .* of the [0-9]+ answers of these cases"):
        join_runs(runs[:2], cases, tmp_path / "two")
    run("constant:A", folds[0].folder / "test.jsonl", tmp_path / "other" / "run-1")
    with pytest.raises(ComparisonError, match=r"is answered by .*run-0 and by .*run-1: folds do not share cases"):
        join_runs([runs[0], tmp_path / "other" / "run-1"], cases, tmp_path / "two")


def test_one_photograph_under_two_names_is_refused_unless_both_are_in_one_fold(manifest, tmp_path):
    (tmp_path / "7.png").write_bytes((tmp_path / "1.png").read_bytes())
    lines = manifest.read_text().splitlines()
    refused = 0
    for seed in range(4):  # by one seed or another they are apart
        try:
            cross_fit(manifest, tmp_path / "q", 3, seed=seed)
        except OverlapError as error:
            refused += "images asked about were trained on" in str(error)
    assert refused
    with pytest.raises(ValueError, match="--cross-fit 1: expected 2 to 66, the number of patients"):
        cross_fit(manifest, tmp_path / "q", 1)
    assert json.loads(lines[0])["schema"] == "mgll.manifest/1"
