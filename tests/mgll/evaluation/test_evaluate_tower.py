"""The recipe from towers and a manifest to page and tables, again without doing anything twice, and its errors in one line."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import launches
import numpy as np
import pandas as pd
import pytest
import torch
from small_towers import save_small_tower

from mgll.evaluation.embedding import embed, load_embedding
from mgll.evaluation.named_towers import NamedEncoders, find_tower, split_name
from mgll.evaluation.saving import load_evaluation
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import tower_file
from mgll.formats import FormatError
from mgll.tower.file import load_tower, read_header
from recipes.evaluate_tower import main

QUICK = ["--min_train", "20", "--shares", "0.5", "--draws", "1", "--rare", "40"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two methods, one of two seeds, and an encoder by name."""
    folder = tmp_path_factory.mktemp("towers")
    paths = [save_small_tower(folder / name / "mgll.ckpt", seed) for seed, name in enumerate(("a", "b", "c"))]
    for path in paths[:2]:  # these runs' logs still lie beside them
        losses = (3.0, 2.0, 1.5, 1.0, 0.8, 0.5)
        lines = [{"step": step, "epoch": 0, "loss": loss, "sclip": loss / 2} for step, loss in enumerate(losses, 1)]
        path.with_name("metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [f"first={paths[0]}", f"first={paths[1]}", f"<b>&second={paths[2]}", "vit-nano-16"]


@pytest.fixture(scope="module")
def out(runs, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    assert main([*runs, "--manifest", str(manifest), "--image_size", "32", "--out", str(folder), *QUICK]) == 0
    return folder


def test_every_method_and_reading_is_in_every_form(out):
    results, classes = pd.read_csv(out / "results.csv"), pd.read_csv(out / "classes.csv")
    assert set(results.method) == {"first", "<b>&second", "vit-nano-16"}
    assert {"probe", "k-NN", "few labels 50 %", "left out east", "left out, mean over sources"} <= set(results.reading)
    assert set(results[results.method == "first"].runs) == {2}
    assert ((results.low <= results.macro_auc) & (results.macro_auc <= results.high)).all()
    assert not results[["macro_auc", "average_precision", "accuracy", "behind"]].isna().any(axis=None)
    for _, group in results.groupby(["manifest", "reading"]):
        assert sorted(group["rank"]) == [1, 2, 3]
        assert group.sort_values("rank").macro_auc.is_monotonic_decreasing
    page = (out / "leaderboard.html").read_text()
    assert "&lt;b&gt;&amp;second" in page
    assert "<b>&second" not in page
    assert not re.search(r"(src|href)=\"http", page)
    for name in ("leaderboard.md", "leaderboard.tex"):
        text = (out / name).read_text()
        assert all(name in text for name in ("first", "second", "vit-nano-16"))
    assert r"\begin{tabular}{lrr" in (out / "leaderboard.tex").read_text()
    assert "of 119 training images 1 image has it" in (out / "leaderboard.md").read_text()
    cards = sorted(path.name for path in (out / "cards").iterdir())
    assert cards == ["_b__second.md", "first.md", "vit-nano-16.md"]
    assert set(classes["class"]) == {"DR", "Drusen", "Glaucoma"}


def test_macro_auc_is_the_mean_over_runs_of_the_saved_readings(out):
    results = pd.read_csv(out / "results.csv").set_index(["reading", "method"])
    found = [load_evaluation(path) for path in (out / "evaluations").glob("*.npz")]
    first = [run["probe"].summary() for run in found if run.tower == "first"]
    assert results.loc[("probe", "first"), "macro_auc"] == pytest.approx((first[0].auc + first[1].auc) / 2, abs=1e-5)
    sources = [[reading.summary().auc for reading in run.named("left out")] for run in found if run.tower != "first"]
    for method_values in sources:
        assert any(
            abs(value - sum(method_values) / 2) < 1e-5 for value in results.loc["left out, mean over sources"].macro_auc
        )


def test_a_second_call_evaluates_nothing_again_and_a_new_tower_only_itself(out, runs, manifest, capsys):
    before = {path: path.stat().st_mtime_ns for path in (out / "evaluations").glob("*.npz")}
    call = ["--manifest", str(manifest), "--image_size", "32", "--out", str(out), *QUICK]
    assert main([*runs[1:], *call]) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "evaluations").glob("*.npz")} == before
    said = capsys.readouterr().out
    assert "random weights, seed 0" in said
    assert main([*runs, *call]) == 0


def test_what_is_wrong_is_said_in_one_line(runs, manifest, tmp_path, capsys):
    call = ["--manifest", str(manifest), "--image_size", "32", "--out", str(tmp_path / "out"), *QUICK]
    for towers, message in (
        (["nowhere/mgll.ckpt"], "no such tower file"),
        (["no-such-encoder"], "unknown encoder 'no-such-encoder'"),
        (
            ["timm:no-such-model"],
            "timm has no model called 'no-such-model'",
        ),  # though a layout of files is called timm too
        ([f"hf:{tmp_path}/nothing"], "no config.json in it"),
        ([runs[0], runs[0]], "copies of a tower are no further seeds"),
    ):
        assert main([*towers, *call]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert message in said[-1]
        assert said[-1].startswith("error: ")
    assert main([runs[0], *call, "--manifest", str(manifest)]) == 1
    assert "two manifests are called alike" in capsys.readouterr().err
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(FormatError, match="not an evaluation"):
        load_evaluation(tmp_path / "broken.npz")


def test_names_of_towers_and_methods():
    assert split_name("clip=runs/a/mgll.ckpt") == ("clip", "runs/a/mgll.ckpt")
    assert split_name("runs/a/mgll.ckpt") == ("runs/a", "runs/a/mgll.ckpt")
    assert split_name("runs/lr=3/mgll.ckpt") == ("runs/lr=3", "runs/lr=3/mgll.ckpt")
    assert split_name("timm:resnet50") == ("timm:resnet50", "timm:resnet50")


def test_the_page_shows_features_by_class_and_source_and_the_curves_that_towers_carry(out):
    page = (out / "leaderboard.html").read_text()
    for heading in ("Features seen from above, by class", "Features seen from above, by source"):
        section = page.partition(heading)[2].partition("</div>")[0]
        assert section.count("<figure>") == 3
        points = sum(path.count("h0") for path in re.findall(r'<path class="dots c\d" d="([^"]*)"', section))
        assert points == 3 * 60  # a quarter of the 240 images is read, by three methods
    assert all(f"<span>{word}</span>" in page for word in ("Glaucoma", "several of these", "east", "west"))
    assert "No curve travels with" in page
    training = page.partition('id="training"')[2]
    assert training.count("<figure>") == 1
    assert "6 steps; loss 3 to 0.5; 3 to 0.5" in training
    ranks = page.partition('id="ranks"')[2]
    assert "Over 1 set the mean ranks of 3 methods differ at 5 % from 3.31 on" in ranks
    assert "with so few sets they are no test" in ranks
    card = (out / "cards" / "first.md").read_text()
    assert "images of 32 pixels a side" in card


def test_images_lie_where_scikit_learn_puts_them_and_travel_in_a_file(out, records, tmp_path):
    found = [load_embedding(path) for path in sorted((out / "embeddings").glob("*.npz"))]
    assert len(found) >= 3
    assert all(own.points.min() == 0 and own.points.max() == 1 for own in found)
    assert len({own.kinds for own in found}) == 1
    again = embed(
        tower_file(next((out / "towers").glob("*.ckpt"))), records, EvaluationSettings(cache=str(out / "features"))
    )
    assert any(np.array_equal(again.points, own.points) for own in found)
    few = embed(
        tower_file(next((out / "towers").glob("*.ckpt"))), records, EvaluationSettings(cache=str(out / "features")), 4
    )
    assert (few.points.shape, few.images) == ((4, 2), 60)
    (tmp_path / "cut.npz").write_bytes(next((out / "embeddings").glob("*.npz")).read_bytes()[:100])
    with pytest.raises(FormatError, match="not places of images"):
        load_embedding(tmp_path / "cut.npz")


def test_images_whose_features_are_all_equal_lie_in_one_place(records, tower_path, tmp_path):
    same = [record.model_copy(update={"image": records[0].image}) for record in records[:30]]
    found = embed(tower_file(tower_path), same, EvaluationSettings(cache=str(tmp_path), split="train"))
    assert len(found.points) == len([record for record in same if record.split == "train" and record.labels]) > 4
    assert not found.points.any()


def test_an_encoder_by_name_takes_its_weights_from_a_file(runs, tmp_path):
    weights = runs[0].removeprefix("first=")
    tower = find_tower(f"vit-nano-16@{weights}", tmp_path, NamedEncoders(32, "pad", "mean"))
    header = read_header(tower.path)
    assert (header.pooling, header.preprocessing.size, header.preprocessing.resize) == ("mean", 32, "pad")
    given, taken = load_tower(weights)[0].state_dict(), load_tower(tower.path)[0].state_dict()
    assert all(torch.equal(taken[name], tensor) for name, tensor in given.items())


def test_an_encoder_of_timm_is_no_file_of_a_layout_of_that_name(tmp_path):
    tower = find_tower("timm:test_vit", tmp_path, NamedEncoders(32))
    assert read_header(tower.path).config["architecture"] == "test_vit"


@pytest.mark.slow
def test_a_fine_tuning_that_was_killed_goes_on_to_the_same_scores(runs, manifest, tmp_path):
    recipe = Path(__file__).parents[3] / "recipes" / "evaluate_tower.py"
    asked = ["--fine-tune", "full", "--fine-tune-epochs", "6", "--shares", "--no-zero-shot", "--no-leave-source-out"]
    command = [recipe, runs[0], "--manifest", manifest, *asked, "--min-train", "20", "--cache", tmp_path / "features"]

    def scores(out):
        (path,) = (out / "evaluations").glob("*.npz")
        found = load_evaluation(path)
        assert len(list(path.parent.iterdir())) == 2  # the file and what it was made of
        return found["fine-tuned, all blocks"], found.skipped

    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    process = launches.start([*command, "--out", killed], tmp_path / "said")
    while process.is_alive() and not list(killed.glob("evaluations/*.begun/fine-tuned-full/step-00000002/state.json")):
        time.sleep(0.002)
    assert process.is_alive(), (tmp_path / "said").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    shutil.copytree(killed, tmp_path / "other")
    other = launches.run([*command, "--out", tmp_path / "other", "--neighbours", "6"])
    assert "settings.neighbours: 20 -> 6" in other.stdout
    assert "goes on after" not in other.stdout
    resumed = launches.run([*command, "--out", killed])
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"fine-tuning full goes on after epoch [2-6]", resumed.stdout)
    assert launches.run([*command, "--out", undisturbed]).returncode == 0
    (again, skipped), (once, also) = scores(killed), scores(undisturbed)
    np.testing.assert_array_equal(again.scores, once.scores)
    assert (again.notes, skipped) == (once.notes, also)
