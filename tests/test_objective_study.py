"""`recipes/objective_study.py` on drawn photographs: cells are made once, resumed, compared, and read where asked."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgll.evaluation.saving import load_evaluation
from mgll.manifest.records import read_manifest, write_manifest
from mgll.synthetic.dataset import generate

SCRIPT = Path(__file__).parents[1] / "recipes/objective_study.py"
CONFIG = """
arms:
  frozen: {objective: null}
  clip: {objective: clip}
  mgll: {objective: mgll, changes: {learning_rate: 2.0e-3}}
conditions:
  all: {sources: null}
  half, of the texts: {missing_texts: 0.5, arms: [mgll], seeds: [0]}
seeds: [0, 1]
min_train: 5
min_read: 3
shares: [0.5]
pretrain: {encoder: vit-nano-16, image_size: 32, feature_width: 16, epochs: 1, batch_size: 16, remember_images: false}
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("eyes")
    return generate(folder, 160, seed=0, progress=False)


def run(manifest: Path, out: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    config = out.with_suffix(".yaml")
    config.write_text(CONFIG)
    command = [sys.executable, SCRIPT, "--config", config, "--manifest", manifest, "--out", out, *flags]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ)


@pytest.mark.slow
def test_every_cell_is_made_once_read_and_compared(manifest, tmp_path):
    out = tmp_path / "study"
    first = run(manifest, out)
    assert first.returncode == 0, first.stderr
    folders = sorted(path.relative_to(out).as_posix() for path in out.glob("*/*") if path.is_dir())
    assert folders == [
        "all/clip-0",
        "all/clip-1",
        "all/frozen-0",
        "all/mgll-0",
        "all/mgll-1",
        "half, of the texts/mgll-0",
    ]
    summary = (out / "summary.md").read_text()
    assert "| mgll - clip | test, probe |" in summary
    assert "| mgll - clip | test, zero-shot, disease |" in summary
    rows = list(csv.DictReader((out / "summary.csv").open()))
    probed = [row for row in rows if row["reading"] == "test, probe" and row["condition"] == "all"]
    assert [(row["arm"], row["seed"]) for row in probed] == [
        ("frozen", "0"), ("clip", "0"), ("clip", "1"), ("mgll", "0"), ("mgll", "1")
    ]  # fmt: skip
    assert len({row["macro AUC"] for row in probed}) == 5
    towers = {path: path.stat().st_mtime_ns for path in out.rglob("*.ckpt")}
    _as_killed_while_tidying_up(out / "all/clip-0")
    again = run(manifest, out)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.ckpt")} == towers
    assert (out / "summary.md").read_text() == summary
    changed = run(manifest, out, "--pretrain.learning_rate", "5e-4", "--only", "[clip]")
    assert changed.returncode == 0, changed.stderr
    assert "learning_rate" in changed.stdout
    moved = {path.parent.name for path, at in towers.items() if path.stat().st_mtime_ns != at}
    assert moved == {"clip-0", "clip-1"}  # mgll has a rate of its own, and the start weights none


@pytest.mark.slow
def test_sources_that_pretraining_saw_are_read_apart_from_the_others(manifest, tmp_path):
    records = [
        record.model_copy(update={"source": "here" if int(record.group.split("-")[-1]) % 3 else "there"})
        for record in read_manifest(manifest)
    ]
    two = tmp_path / "two.jsonl"
    write_manifest(two, records)
    out = tmp_path / "study"
    only = [
        "--conditions",
        "{some: {sources: [here], arms: [frozen, mgll], seeds: [0]}}",
        "--min_read",
        "1",
        "--min_train",
        "3",
    ]
    assert run(two, out, *only).returncode == 0
    read = {
        part: load_evaluation(out / f"some/mgll-0/{part}.evaluation.npz").readings["probe"].patients
        for part in ("val", "seen sources", "there")
    }
    expected = {
        "val": {r.group for r in records if r.source == "here" and r.split == "val"},
        "seen sources": {r.group for r in records if r.source == "here" and r.split == "test"},
        "there": {r.group for r in records if r.source == "there"},
    }
    assert {part: {group for _, group in patients} for part, patients in read.items()} == expected
    learned = read_manifest(out / "some/mgll-0/manifest.jsonl", "train")
    assert {record.source for record in learned} == {"here"}
    rows = list(csv.DictReader((out / "summary.csv").open()))
    assert {"seen sources, probe", "there unseen, probe", "val, probe", "test, probe"} <= {
        row["reading"] for row in rows
    }


def _as_killed_while_tidying_up(folder: Path) -> None:
    """The tower is there, half of what it could be resumed from is removed, and nothing says yet that it is finished."""
    record = folder / "mgll.ckpt.stage.json"
    record.write_text(record.read_text().replace('"finished": true', '"finished": false'))
    left = folder / "pretraining/checkpoints/step-00000007/state.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"step": 7}')


def test_a_source_that_is_not_there_is_named(manifest, tmp_path):
    said = run(manifest, tmp_path / "study", "--conditions", "{x: {sources: [Nowhere]}}")
    assert said.returncode == 1
    assert "has no source Nowhere" in said.stderr.splitlines()[-1]
