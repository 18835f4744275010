"""A run is resumed only with what it began with, by content; numbers that are none end it."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.files import sha256
from mgll.manifest import image_identity
from mgll.manifest.records import Record, write_manifest
from mgll.settings import PretrainSettings
from mgll.tower.file import read_header
from mgll.training import pretraining
from mgll.training.not_finite import NotFiniteError, no_step, note_step, refuse_not_finite
from mgll.training.pretraining import pretrain


def write(folder: Path, word: str = "drusen") -> Path:
    """A manifest of sixteen photographs, half of them with `word`."""
    records = [
        Record(image=f"{i}.png", split="train", group=f"p{i}", texts={"disease": (word if i % 2 else "health",)})
        for i in range(16)
    ]
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture
def settings(tmp_path) -> PretrainSettings:
    random = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    for index in range(16):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(data / f"{index}.png")
    return PretrainSettings(
        manifest=str(write(data)),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=8,
        epochs=2,
        batch_size=8,
        text_encoder=bert(tmp_path / "bert"),
        checkpoint_every=2,
        log_every=1,
    )


def other_texts(settings: PretrainSettings) -> None:
    write(Path(settings.manifest or "").parent, word="glaucoma")


def another_image(settings: PretrainSettings) -> None:
    Image.new("RGB", (32, 32)).save(Path(settings.manifest or "").parent / "3.png")


def another_text_encoder(settings: PretrainSettings) -> None:
    vocabulary = Path(settings.text_encoder) / "config.json"
    vocabulary.write_text(vocabulary.read_text().replace("{", '{"other": 1, ', 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_texts, "manifest: another content"),
        (another_image, r"1 of 16 image files are not those with which this run began \(.*3.png\)"),
        (another_text_encoder, "text_encoder: another content"),
    ],
)
def test_other_content_under_the_same_name_is_refused_and_the_tower_stays(settings, change, said):
    tower = pretrain(settings)
    before = sha256(tower)
    change(settings)
    with pytest.raises(ValueError, match=said):
        pretrain(settings)
    assert sha256(tower) == before


def test_other_start_weights_under_the_same_name_are_refused(settings, tmp_path):
    start = tmp_path / "start.ckpt"
    shutil.copy(pretrain(replace(settings, out=str(tmp_path / "first"))), start)
    run = replace(settings, start_weights=str(start))
    tower = pretrain(run)
    assert read_header(tower).origin["start_weights_sha256"] == sha256(start)
    shutil.copy(pretrain(replace(settings, out=str(tmp_path / "second"), seed=1)), start)
    with pytest.raises(ValueError, match="start_weights: another content"):
        pretrain(run)


def test_the_same_content_elsewhere_goes_on(settings, tmp_path):
    tower = pretrain(settings)
    before = load_file(tower)
    moved, data = tmp_path / "moved", Path(settings.manifest or "").parent
    shutil.copytree(data, moved)  # with the files' times
    shutil.copytree(settings.text_encoder, tmp_path / "bert2")
    Path(settings.out).rename(tmp_path / "run2")
    again = replace(
        settings,
        manifest=str(moved / "manifest.jsonl"),
        text_encoder=str(tmp_path / "bert2"),
        out=str(tmp_path / "run2"),
    )
    after = load_file(pretrain(again))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("asked", "few"), [(True, 0), (False, 2**20)], ids=["on request", "where they are few"])
def test_bytes_are_compared_whatever_the_times(settings, monkeypatch, asked, few):
    monkeypatch.setattr(image_identity, "READ_WHOLE", few)
    run = replace(settings, verify_images=asked)
    pretrain(run)
    image = Path(settings.manifest or "").parent / "3.png"
    os.utime(image, (0, 0))
    pretrain(run)
    stat = image.stat()
    content = bytearray(image.read_bytes())
    content[-20] ^= 1  # as many bytes as before
    image.write_bytes(content)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match=r"1 of 16 image files .*3.png"):
        pretrain(run)


def test_of_many_bytes_the_times_are_compared(settings, monkeypatch):
    monkeypatch.setattr(image_identity, "READ_WHOLE", 0)
    pretrain(settings)
    os.utime(Path(settings.manifest or "").parent / "3.png", (0, 0))
    with pytest.raises(ValueError, match=r"1 of 16 image files .*Copies need their files' times"):
        pretrain(settings)
    monkeypatch.undo()  # what is few now changes nothing: the run goes on as it began
    with pytest.raises(ValueError, match=r"1 of 16 image files .*Copies need their files' times"):
        pretrain(settings)


def test_a_loss_that_is_no_number_ends_the_run_with_its_batch_and_the_last_good_checkpoint(settings, monkeypatch):
    """Weights broken after step 3, between two checkpoints: step 4 is the first whose loss is NaN."""
    run = replace(settings, epochs=5, log_every=5, checkpoint_every=2)
    model = None
    whole = pretraining.ContrastiveModel

    def kept(*arguments):
        nonlocal model
        model = whole(*arguments)
        return model

    def break_weights(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                next(model.tower.parameters()).fill_(math.nan)

    monkeypatch.setattr(pretraining, "ContrastiveModel", kept)
    with pytest.raises(NotFiniteError, match=r"step 4 is NaN or infinite; .*not_finite.txt lists its 8 images"):
        pretrain(run, after_step=break_weights)
    out = Path(run.out)
    assert not (out / "mgll.ckpt").exists()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    weights = load_file(out / "checkpoints" / "step-00000002" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert len(set((out / "not_finite.txt").read_text().splitlines())) == 8
    monkeypatch.undo()
    pretrain(run)  # nothing was wrong with the images: the run goes on from the good checkpoint
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [5, 10]


def test_the_first_bad_step_is_noted_without_reading_a_value():
    first = no_step(torch.device("cpu"))
    first = note_step(first, 0, torch.tensor(1.0), None)
    first = note_step(first, 1, torch.tensor(1.0), torch.tensor(math.inf))
    first = note_step(first, 2, torch.tensor(math.nan), 1.0)
    assert int(first) == 1
    meta = note_step(no_step(torch.device("meta")), 0, torch.empty((), device="meta"))
    assert meta.device.type == "meta"


def test_weights_that_are_no_numbers_are_not_written():
    with pytest.raises(NotFiniteError, match="1 tensors of x hold NaN or infinity, the first: b"):
        refuse_not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, math.inf]), "c": torch.ones(1).long()}, "x")
