"""`recipes/objective_screen.py` on drawn photographs: an adapter learns what texts say, arms differ, and runs are made once."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mgll.encoders.text import TextEncoder
from mgll.evaluation.screening import ScreenSettings, train_adapter
from mgll.manifest.records import read_manifest
from mgll.settings import OBJECTIVES
from mgll.synthetic.dataset import generate

SCRIPT = Path(__file__).parents[1] / "recipes/objective_screen.py"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("eyes"), 160, seed=0, progress=False)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder()


@pytest.mark.parametrize("objective", ["mgll", "clip-single", "siglip", "supcon"])
def test_an_adapter_brings_images_near_their_own_texts(manifest, encoder, objective):
    """The features are given: each image's is its class plus noise, so that a working objective must find its texts."""
    records = [record for record in read_manifest(manifest) if record.split == "train"]
    names = sorted({record.labels[0] for record in records})
    random = np.random.default_rng(0)
    places = random.normal(size=(len(names), 24))
    features = np.stack([places[names.index(record.labels[0])] for record in records])
    features = torch.from_numpy(features + random.normal(size=features.shape) / 4).float()
    settings = ScreenSettings(epochs=20, batch_size=16, feature_width=32)
    adapter, side = train_adapter(features, records, OBJECTIVES[objective], 0, settings, encoder)
    again, _ = train_adapter(features, records, OBJECTIVES[objective], 0, settings, encoder)
    with torch.no_grad():
        adapted = adapter(features)
        assert torch.equal(adapted, again(features))
        seen = side.image_features(adapted)
    if objective == "supcon":  # it compares images with images
        own = torch.tensor([names.index(record.labels[0]) for record in records])
        near = (seen @ seen.T).fill_diagonal_(-2).argmax(1)
        assert (own[near] == own).float().mean() > 0.9
        return
    said = side.text_features(encoder.features([record.texts["disease"][-1] for record in records]))
    own = (seen * said).sum(1).mean() - (seen @ said.T).mean()
    assert own > 0.1


@pytest.mark.slow
def test_arms_are_run_once_read_and_compared(manifest, tmp_path):
    config, out = tmp_path / "screen.yaml", tmp_path / "screen"
    config.write_text(
        "arms: {clip: {sclip: 1, pointwise: 0, smooth_kl: 0, levels: caption}, mgll: {smooth_kl: 1.0}}\nseeds: [0, 1]\n"
    )
    flags = ["--config", config, "--manifest", manifest, "--out", out, "--encoder", "vit-nano-16", "--image-size", "32"]
    flags += ["--min-train", "5", "--min-read", "3", "--batch-size", "16", "--epochs", "2"]
    command = list(map(str, [sys.executable, SCRIPT, *flags]))
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    rows = list(csv.DictReader((out / "summary.csv").open()))
    probed = [(row["arm"], row["seed"]) for row in rows if row["reading"] == "val, zero-shot, disease"]
    assert probed == [("clip", "0"), ("clip", "1"), ("mgll", "0"), ("mgll", "1")]
    assert len({row["macro AUC"] for row in rows if row["reading"] == "val, zero-shot, disease"}) == 4
    assert "| mgll - clip | val, probe |" in (out / "summary.md").read_text()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    again = subprocess.run([*command, "--seeds", "0,1,2"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list(out.rglob("*.npz"))) == len(made) + 2
    bad = ["--seeds", "0", "--only", "[mgll]", "--missing_texts", "[0.5]", "--wrong_texts", "[0.5]"]
    worse = subprocess.run([*command, *bad], capture_output=True, text=True)
    assert worse.returncode == 0, worse.stderr
    rows = list(csv.DictReader((out / "summary.csv").open()))
    found = {row["arm"]: row["macro AUC"] for row in rows if row["reading"] == "val, zero-shot, disease"}
    assert list(found) == ["mgll", "mgll, 50% missing", "mgll, 50% wrong"]
    assert len(set(found.values())) == 3
    assert {path: path.stat().st_mtime_ns for path in made} == made
    unknown = subprocess.run([*command, "--only", "[mglll]"], capture_output=True, text=True)
    assert "there is no arm mglll; there are clip, mgll" in unknown.stderr.splitlines()[-1]
