"""Shards train like folders; orders, text levels and source resolution."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mgll.images.files import opened
from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shards import pack
from mgll.settings import PretrainSettings
from mgll.training.data import TrainingImages, epoch_order_by_shards, shards_of, text_levels
from mgll.training.looks import Augmentation
from mgll.training.pretraining import pretrain
from mgll.training.steps import global_batches

STILL = Augmentation(1.0, 0.0, 0.0, 0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Twenty noisy pictures with two levels, packed into shards of six."""
    folder = tmp_path_factory.mktemp("photographs")
    random, records = np.random.default_rng(0), []
    for index in range(20):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        texts = {"disease": ("abnormal", f"disease {index % 3}"), "explanation": (f"words {index % 4}",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    write_manifest(folder / "manifest.jsonl", records)
    return pack(folder / "manifest.jsonl", folder / "shards", images=6)


@pytest.fixture
def settings(shards, tmp_path) -> PretrainSettings:
    return PretrainSettings(
        manifest=str(shards),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=2,
        batch_size=6,
        checkpoint_every=1,
        log_every=1,
    )


def unpacked(shards: Path, folder: Path) -> Path:
    """The same manifest, line by line, with each image in a file of its own."""
    records = []
    for index, record in enumerate(read_manifest(shards)):
        with opened(record.image) as (_, file):
            (folder / f"{index}.png").write_bytes(file.read())
        records.append(record.model_copy(update={"image": f"{index}.png"}))
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def same(a: Path, b: Path) -> bool:
    ours, theirs = load_file(a), load_file(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_shards_train_to_the_weights_of_the_folder_with_workers_too(settings, shards, tmp_path):
    folder = pretrain(replace(settings, manifest=str(unpacked(shards, tmp_path)), out=str(tmp_path / "folder")))
    assert same(pretrain(settings), folder)
    assert same(pretrain(replace(settings, out=str(tmp_path / "workers"), workers=2)), folder)


@pytest.mark.slow
def test_a_killed_run_over_few_shards_at_once_resumes_to_the_same_bits(settings, tmp_path):
    settings = replace(settings, shards_at_once=2)
    undisturbed = pretrain(replace(settings, out=str(tmp_path / "undisturbed")))

    def kill(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, after_step=kill)
    assert same(pretrain(settings), undisturbed)
    assert not same(pretrain(replace(settings, out=str(tmp_path / "all"), shards_at_once=0)), undisturbed)


def test_few_shards_are_read_at_a_time_and_every_image_once():
    shards = np.repeat(np.arange(10), 7)
    orders = [epoch_order_by_shards(shards, 3, seed=1, epoch=epoch) for epoch in (0, 0, 1)]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    for order in orders:
        assert sorted(order.tolist()) == list(range(70))
        stretches = [set(shards[order[start : start + 21]].tolist()) for start in range(0, 70, 21)]
        assert [len(stretch) for stretch in stretches] == [3, 3, 3, 1]
        mixed = shards[order[:21]].tolist()
        assert mixed != sorted(mixed)
    assert next(global_batches(70, 8, 0, 0, order=orders[0])) == orders[0][:8].tolist()


def test_the_shard_of_an_image_is_its_tar_file_or_its_folder():
    paths = ["s/0.tar::a.png@0", "s/1.tar::b.png@0", "s/0.tar::c.png@512", "s/x.png", "s/y.png"]
    records = [Record(image=path, split="train", group="g", texts={}) for path in paths]
    assert shards_of(records).tolist() == [0, 1, 0, 2, 2]


def test_a_low_source_resolution_loses_detail_and_nothing_else(tmp_path):
    rows, columns = np.mgrid[0:200, 0:200]
    board = np.repeat(((rows // 2 + columns // 2) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    smooth = np.repeat((columns * 255 // 199).astype(np.uint8)[..., None], 3, axis=2)
    for name, pixels in (("board", board), ("smooth", smooth)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    records = [
        Record(image=str(tmp_path / f"{name}.png"), split="train", group=name, texts={}) for name in ("board", "smooth")
    ]
    full, low, ample = (
        TrainingImages(records, Preprocessing(size=160), STILL, None, resolution) for resolution in (None, 64, 512)
    )
    assert torch.equal(full[0, 0][0], ample[0, 0][0])
    assert full[0, 0][0].float().std() > 50
    assert low[0, 0][0].float().std() < 5
    assert (full[0, 1][0].float() - low[0, 1][0].float()).abs().mean() < 2.5


@pytest.mark.slow
def test_text_corruption_reaches_training(settings, shards, tmp_path):
    plain = pretrain(replace(settings, epochs=1))
    for name, changes in (
        ("wrong", {"wrong_texts": 0.5}),
        ("missing", {"missing_texts": 0.3}),
        ("mixed", {"granularity": {"disease": "A", "explanation": "AB"}}),
    ):
        assert not same(pretrain(replace(settings, epochs=1, out=str(tmp_path / name), **changes)), plain)


def test_a_caption_of_no_words_is_no_text():
    rows = [
        Record(image="a", split="train", group="a", texts={}),
        Record(image="b", split="train", group="b", texts={"l": ("x",)}),
    ]
    (level,) = text_levels(rows, levels="caption").values()
    assert level.unique == ("x",)
    assert [level.of_record(row).tolist() for row in (0, 1)] == [[], [0]]


def test_a_clip_run_survives_images_without_words(settings):
    pretrain(replace(settings, objective="clip", epochs=1, missing_texts=0.6))
    with pytest.raises(ValueError, match="no image has a text"):
        pretrain(replace(settings, epochs=1, out=settings.out + "-2", missing_texts=1.0))
