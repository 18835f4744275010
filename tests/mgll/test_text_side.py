"""The text side travels in the tower file: it is what training ended with, and nothing that reads towers meets it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_text_models import bert

from mgll.encoders.vision import vision_encoder
from mgll.files import content_sha256
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import Record, write_manifest
from mgll.settings import OBJECTIVES, PretrainSettings
from mgll.tower.__main__ import _main
from mgll.tower.features import tower_features
from mgll.tower.file import load_text_side, load_tower, read_header, read_tower, save_tower
from mgll.tower.standardise import standardise_tower
from mgll.training.pretraining import pretrain


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> PretrainSettings:
    """A run of two epochs over eight images with two levels."""
    folder = tmp_path_factory.mktemp("photographs")
    random, records = np.random.default_rng(0), []
    for index in range(8):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        texts = {"disease": ("one", "two")[: 1 + index % 2], "explanation": (f"text {index % 3}",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    write_manifest(folder / "manifest.jsonl", records)
    return PretrainSettings(
        manifest=str(folder / "manifest.jsonl"),
        out=str(folder / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=2,
        batch_size=8,
        text_encoder=bert(folder / "bert"),
        remember_images=False,
    )


@pytest.fixture(scope="module")
def frozen(settings) -> Path:
    return pretrain(settings)


def checkpoint(out: str) -> dict[str, torch.Tensor]:
    return load_file(max(Path(out, "checkpoints").glob("step-*")) / "model.safetensors")


def test_a_pretrained_tower_brings_the_projections_and_names_its_text_encoder(settings, frozen):
    side, trained = load_text_side(frozen), checkpoint(settings.out)
    assert torch.equal(side.image_projection, trained["image_projection.weight"])
    assert torch.equal(side.text_projection, trained["text_projection.weight"])
    assert not side.encoder
    assert side.facts.encoder == settings.text_encoder
    assert side.facts.sha256 == content_sha256(settings.text_encoder)
    assert side.facts.temperature == pytest.approx(OBJECTIVES["mgll"].temperature)
    assert side.facts.bias == pytest.approx(trained["objective.bias"].item())
    assert side.facts.levels == ("disease", "explanation")
    assert read_header(frozen).schema_ == "mgll.tower/3"


def test_of_a_trained_text_encoder_the_changed_weights_travel(settings, tmp_path):
    learns = replace(settings, out=str(tmp_path), text_training=1, objective="siglip")
    side, trained = load_text_side(pretrain(learns)), checkpoint(learns.out)
    changed = {name.removeprefix("text_encoder.model."): t for name, t in trained.items() if "text_encoder" in name}
    assert side.encoder.keys() == changed.keys() != set()
    assert all(torch.equal(side.encoder[name], changed[name]) for name in changed)
    assert side.facts.temperature == pytest.approx(1 / math.exp(trained["objective.log_scale"].item()))
    assert side.facts.levels == ("caption",)


def test_whoever_takes_the_tower_does_not_meet_the_text_side(frozen, capsys):
    model, _ = load_tower(frozen)
    assert read_tower(frozen).keys() == model.state_dict().keys()
    assert _main(["validate", str(frozen)]) == 0
    assert vision_encoder("vit-nano-16", 32, str(frozen)).state_dict().keys() == model.state_dict().keys()


def test_a_tower_without_a_text_side_is_what_it_was(tmp_path):
    save_tower(tmp_path / "mgll.ckpt", vision_encoder("vit-nano-16", 32), Preprocessing(size=32))
    assert load_text_side(tmp_path / "mgll.ckpt") is None
    with safe_open(tmp_path / "mgll.ckpt", "pt") as file:
        assert "text_side" not in file.metadata()["mgll"]


def test_a_standardised_tower_lies_where_it_lay_in_the_shared_space(settings, frozen, tmp_path):
    images = [str(path) for path in sorted(Path(settings.manifest).parent.glob("*.png"))]
    once, twice = tmp_path / "once.ckpt", tmp_path / "twice.ckpt"
    standardise_tower(frozen, images, once)
    standardise_tower(once, images[:6], twice)
    before, *after = (
        load_text_side(path).image_features(torch.from_numpy(tower_features(path, images)))
        for path in (frozen, once, twice)
    )
    for points in after:
        torch.testing.assert_close(points, before, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("text_side.text_projection.weight"), "text_projection.weight is missing"),
        (lambda tensors: tensors.update({"text_side.head": torch.zeros(2)}), "text_side.head is surplus"),
        (
            lambda tensors: tensors.update({"text_side.image_projection.weight": torch.zeros(16, 3)}),
            r"image_projection.weight is \(16, 3\), its header says \(16, 64\)",
        ),
        (
            lambda tensors: tensors["text_side.image_projection.weight"].fill_(math.nan),
            "NaN or infinity in text_side.image_projection.weight",
        ),
    ],
)
def test_a_text_side_that_is_not_as_its_header_says_is_refused(frozen, tmp_path, change, message, capsys):
    path, tensors = tmp_path / "mgll.ckpt", load_file(frozen)
    with safe_open(frozen, "pt") as file:
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata=metadata)
    for read in (load_tower, load_text_side):
        with pytest.raises(FormatError, match=message):
            read(path)
    assert _main(["validate", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


def test_a_text_side_that_no_header_announces_is_refused(tmp_path):
    path = tmp_path / "mgll.ckpt"
    save_tower(path, vision_encoder("vit-nano-16", 32), Preprocessing(size=32))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {"text_side.image_projection.weight": torch.zeros(16, 64)}, path, metadata=metadata)
    with pytest.raises(FormatError, match="says nothing of a text side, but it holds text_side"):
        load_tower(path)
