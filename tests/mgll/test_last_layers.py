"""Training the last layers of an image encoder only, and against one text of an image at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mgll.encoders.last_layers import train_last
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record, write_manifest
from mgll.settings import PretrainSettings
from mgll.training.data import text_levels
from mgll.training.pretraining import pretrain

RECORDS = [
    Record(image="a", split="train", group="a", texts={"disease": ("x", "y"), "grade": ("z",)}),
    Record(image="b", split="train", group="b", texts={"grade": ("z", "w")}),
    Record(image="c", split="train", group="c", texts={}),
]


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("encoder", "count", "first", "frozen"),
    [
        ("vit-nano-16", 1, "layers.3.", "embeddings"),
        ("timm:vit_tiny_patch16_224", 3, "blocks.9.", "patch_embed"),
        ("timm:convnext_atto", 2, "stages.2.", "stem"),
    ],
)
def test_what_comes_before_the_last_layers_is_not_trained(encoder, count, first, frozen):
    model = vision_encoder(encoder, 64)
    everything = [name for name, _ in model.named_parameters()]
    train_last(model, count, "image_training")
    begin = next(index for index, name in enumerate(everything) if first in name)
    assert trained(model) == set(everything[begin:])
    assert not any(frozen in name for name in trained(model))
    with pytest.raises(ValueError, match=r"image_training 99: the encoder has \d+ layers; give 1 to"):
        train_last(model, 99, "image_training")


@pytest.fixture
def settings(tmp_path) -> PretrainSettings:
    """Eight noisy pictures with texts of two levels."""
    random, records = np.random.default_rng(0), []
    for index in range(8):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
        texts = {"disease": ("abnormal", f"disease {index % 3}"), "explanation": (f"words {index % 4}",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    write_manifest(tmp_path / "manifest.jsonl", records)
    return PretrainSettings(
        manifest=str(tmp_path / "manifest.jsonl"),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=1,
        batch_size=4,
        remember_images=False,
    )


def test_the_weights_before_the_last_layers_are_those_that_it_began_with(settings, tmp_path):
    begun = load_file(pretrain(replace(settings, learning_rate=0.0)))
    last = load_file(pretrain(replace(settings, image_training=1, out=str(tmp_path / "last"))))
    changed = {name for name in last if not torch.equal(last[name], begun[name])}
    assert changed
    assert all("layers.3." in name or "layernorm" in name for name in changed if not name.startswith("text_side"))


def test_a_single_text_of_each_image_is_drawn_anew_in_each_step():
    (level,) = text_levels(RECORDS, "single").values()
    assert set(level.unique) == {"x", "y", "z", "w"}
    drawn = set()
    for step in range(40):
        rows, texts = level.occurrences([0, 1, 2], np.random.default_rng([7, step]))
        assert rows.tolist() == [0, 1]
        drawn.add(tuple(level.unique[text] for text in texts))
        again, same = level.occurrences([0, 1, 2], np.random.default_rng([7, step]))
        assert (again.tolist(), same.tolist()) == (rows.tolist(), texts.tolist())
    assert drawn == {(first, second) for first in "xyz" for second in "zw"}


def test_clip_on_single_texts_is_another_run_than_clip_on_captions(settings, tmp_path):
    single = load_file(pretrain(replace(settings, objective="clip-single")))
    caption = load_file(pretrain(replace(settings, objective="clip", out=str(tmp_path / "caption"))))
    assert any(not torch.equal(single[name], caption[name]) for name in single)
