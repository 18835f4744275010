"""Pretraining decodes drafts, says so in its tower, and goes on with a run that began without them as it began."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from torch import equal

from mgll.manifest.records import Record, write_manifest
from mgll.settings import PretrainSettings
from mgll.tower.file import read_header
from mgll.training.pretraining import pretrain


class StopError(Exception):
    """Ends a run as a kill would."""


@pytest.fixture
def settings(tmp_path) -> PretrainSettings:
    """A run on photographs that are large enough for drafts."""
    random, records = np.random.default_rng(0), []
    for index in range(4):
        coarse = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / f"{index}.jpg", quality=92)
        records.append(Record(image=f"{index}.jpg", split="train", group=str(index), texts={"disease": (f"d{index}",)}))
    write_manifest(tmp_path / "manifest.jsonl", records)
    return PretrainSettings(
        manifest=str(tmp_path / "manifest.jsonl"),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        batch_size=2,
        epochs=2,
        checkpoint_every=1,
        remember_images=False,
    )


def stopped(settings: PretrainSettings) -> None:
    def stop(step: int) -> None:
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        pretrain(settings, after_step=stop)


def test_a_new_run_decodes_drafts_and_its_tower_says_so(settings, tmp_path):
    draft = pretrain(settings)
    exact = pretrain(replace(settings, decode="exact", out=str(tmp_path / "exact")))
    assert (read_header(draft).preprocessing.decode, read_header(exact).preprocessing.decode) == ("draft", "exact")
    one, other = load_file(draft), load_file(exact)
    assert any(not equal(one[name], other[name]) for name in one)
    assert json.loads((Path(settings.out) / "settings.json").read_text())["decode"] == "draft"


def test_an_old_run_goes_on_in_full_and_comes_to_the_same_bits(settings, tmp_path, capsys):
    """A run from before there was a choice has no word about it in its folder."""
    undisturbed = pretrain(replace(settings, decode="exact", out=str(tmp_path / "undisturbed")))
    stopped(replace(settings, decode="exact"))
    said = Path(settings.out) / "settings.json"
    said.write_text(json.dumps({k: v for k, v in json.loads(said.read_text()).items() if k != "decode"}))
    with pytest.raises(ValueError, match="decode: None -> 'draft'"):
        pretrain(replace(settings, decode="draft"))
    resumed = pretrain(settings)
    assert "images are decoded in full, as when this run began" in capsys.readouterr().out
    one, other = load_file(undisturbed), load_file(resumed)
    assert all(equal(one[name], other[name]) for name in one)
    assert read_header(resumed).preprocessing.decode == "exact"


def test_a_run_of_drafts_goes_on_with_drafts_and_not_in_full(settings):
    stopped(settings)
    with pytest.raises(ValueError, match="decode: 'draft' -> None"):
        pretrain(replace(settings, decode="exact"))
    assert read_header(pretrain(settings)).preprocessing.decode == "draft"
