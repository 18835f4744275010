"""Batches of pretraining: the same bits from workers or none, from kept images or files; memory within bounds."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_text_models import bert
from torchvision.transforms.v2 import functional as tvf

from mgll.images.preprocessing import normalise
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.settings import PretrainSettings
from mgll.training.data import TrainingImages, larger_side, text_levels
from mgll.training.loader import Batch, Step, TrainingBatches, batches_from, pixels_on
from mgll.training.looks import Augmentation, Look, apply_look, apply_looks, draw_look
from mgll.training.pretraining import pretrain
from mgll.training.shared_images import SharedImages
from mgll.training.texts import TextTable
from mgll.training.token_file import NAME as TOKENS
from mgll.training.workers import affordable_prefetch

IMAGES, SIZE = 14, 32
WILD = Augmentation(0.5, 0.5, 0.3, 0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Fourteen smooth pictures, one of them damaged, with two levels."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    records = []
    for index in range(IMAGES):
        small = Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        small.resize((60, 60), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        texts = {"disease": ("abnormal", f"disease {index % 3}"), "report": (f"words {index}",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    (folder / "5.png").write_bytes(b"\x89PNG")
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture
def settings(manifest, tmp_path) -> PretrainSettings:
    return PretrainSettings(
        manifest=str(manifest),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=SIZE,
        feature_width=16,
        epochs=3,
        batch_size=4,
        max_bad_share=0.2,
        checkpoint_every=1,
        log_every=1,
        remember_images=False,
    )


def made(settings: PretrainSettings, done: int = 0, kept: SharedImages | None = None) -> list[tuple[Step, Batch]]:
    """All batches of a run from a step on, with texts as numbers."""
    records = read_manifest(settings.manifest, split="train")
    images = TrainingImages(records, settings.preprocessing, WILD, kept, None, settings.augment_on_device)
    levels = text_levels(records, levels="separate")
    table = TextTable(levels, {name: np.arange(len(level.unique)) for name, level in levels.items()}, None)
    return list(batches_from(TrainingBatches(images, table, settings), settings, done, 0, 1))


def assert_same(ours: list[tuple[Step, Batch]], theirs: list[tuple[Step, Batch]]) -> None:
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    for (_, one), (_, two) in zip(ours, theirs, strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert one.readable.tolist() == two.readable.tolist()
        assert np.array_equal(one.looks, two.looks)
        np.testing.assert_equal(
            [vars(level) for level in one.texts.levels.values()], [vars(level) for level in two.texts.levels.values()]
        )


@pytest.mark.parametrize("on_device", [False, True])
def test_workers_and_kept_images_change_no_bit_and_no_order(settings, on_device):
    settings = replace(settings, augment_on_device=on_device)
    plain = made(settings)
    assert len(plain) == 9
    assert [step.number for step, _ in plain] == list(range(9))
    side = larger_side(SIZE)
    assert plain[0][1].pixels.shape == (4, 3, side if on_device else SIZE, side if on_device else SIZE)
    assert plain[0][1].pixels.dtype == torch.uint8
    assert sum((~batch.readable).sum() for _, batch in plain) in (2, 3)  # an epoch leaves two of fourteen out
    assert_same(made(settings, done=5), plain[5:])
    few = SharedImages(IMAGES, side, 5.5 * (3 * side**2 + 1))
    assert_same(made(replace(settings, workers=2), kept=few), plain)
    assert_same(made(replace(settings, workers=3, prefetch=1), 4, SharedImages(IMAGES, side, 1e9)), plain[4:])


def test_a_kept_image_is_decoded_once_by_whichever_process(settings, manifest, tmp_path):
    """In the second run over the same block the files are gone, but for those that found no room."""
    side = larger_side(SIZE)
    block = SharedImages(IMAGES, side, 1e9)
    assert block.told(2).startswith(
        f"decoded images are kept in memory: {IMAGES} of {IMAGES}, up to 0.00 GiB, shared by 2"
    )
    plain = made(replace(settings, workers=2, epochs=4), kept=block)
    away = [path.rename(tmp_path / path.name) for path in manifest.parent.glob("*.png")]
    try:
        assert_same(made(replace(settings, epochs=4), kept=block), plain)
    finally:
        for path in away:
            path.rename(manifest.parent / path.name)


def test_the_block_takes_no_more_than_it_may():
    block = SharedImages(10, 8, 3.9 * 193)
    assert block.room == 3
    for index in range(10):
        block.put(index, torch.full((3, 8, 8), index, dtype=torch.uint8))
    assert [block.get(index) is not None for index in range(10)] == [True] * 3 + [False] * 7
    assert block.get(2).unique().tolist() == [2]
    assert SharedImages(10, 8, 0).get(0) is None


def test_pixels_are_normalised_as_everywhere_and_lost_images_are_zero(settings):
    of = pixels_on(torch.device("cpu"), settings.preprocessing)
    for _, batch in made(settings):
        expected = torch.stack([normalise(own, settings.preprocessing) for own in batch.pixels])
        expected[torch.from_numpy(~batch.readable)] = 0
        assert torch.equal(of(batch), expected)


def test_jitter_gives_the_bits_of_torchvision():
    """Its three adjustments one after the other, of any size and strength; the pixels in either order in memory."""
    random = np.random.default_rng(0)
    for number in range(24):
        height, width = random.integers(1, 90, 2)
        pixels = torch.from_numpy(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(2, 0, 1)
        pixels = pixels.contiguous() if number % 2 else pixels
        expected, factors = pixels, tuple(random.uniform(0, 2, 3).tolist())
        adjusts = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation)
        for adjust, factor in zip(adjusts, factors, strict=True):
            expected = adjust(expected, factor)
        found = apply_look(pixels, (height, width), Look((0, 0, height, width), False, factors))
        assert torch.equal(found, expected), (height, width, factors)


def test_a_batch_on_the_device_looks_as_image_by_image():
    """Each image of a batch has a crop, flip and jitter of its own; whole numbers after each change are the only difference."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(12, 3, 7, 7) * 200 + 25, (40, 40), mode="bicubic")
    squares = smooth.clamp(0, 255).to(torch.uint8)
    for size in (32, 48):  # smaller and larger than the crops
        looks = [draw_look((40, 40), WILD, random) for _ in squares]
        assert {look.flip for look in looks} == {True, False}
        ours = apply_looks(squares, size, torch.tensor([look.row for look in looks]))
        theirs = torch.stack([apply_look(own, (size, size), look) for own, look in zip(squares, looks, strict=True)])
        assert (ours - theirs).abs().max() < 6  # of 255: each change rounds, and the next makes it larger
        assert (ours - theirs).abs().mean() < 1.6
        uncoloured = [replace(look, factors=()) for look in looks]
        ours = apply_looks(squares, size, torch.tensor([look.row for look in uncoloured]))
        theirs = torch.stack(
            [apply_look(own, (size, size), look) for own, look in zip(squares, uncoloured, strict=True)]
        )
        assert (ours - theirs).abs().max() <= 1.01
    still = [draw_look((40, 40), Augmentation(1.0, 0.0, 0.0, 0), random) for _ in squares]
    ours = apply_looks(squares, 40, torch.tensor([look.row for look in still]))
    torch.testing.assert_close(ours, squares.float(), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_run_ends_with_the_same_weights_whoever_prepares_its_batches_and_wherever_it_is_killed(settings, tmp_path):
    """Also the texts: trained, from the tokens' file, with dropout."""
    settings = replace(settings, text_encoder=bert(tmp_path / "bert"), text_training="full", text_dropout=0.1)

    def kill(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    undisturbed = load_file(pretrain(replace(settings, cache_images=False)))
    room = 4 * (3 * larger_side(SIZE) ** 2 + 1) / 2**30
    for name, changes in {
        "workers": {"workers": 2},
        "few kept": {"workers": 2, "cache_gib": room},
        "no worker": {"cache_gib": room},
    }.items():
        run = replace(settings, out=str(tmp_path / name), **changes)
        with pytest.raises(KeyboardInterrupt):
            pretrain(run, after_step=kill)
        tokens = (tmp_path / name / TOKENS).stat().st_mtime_ns
        resumed = load_file(pretrain(run))
        assert (tmp_path / name / TOKENS).stat().st_mtime_ns == tokens
        assert all(torch.equal(tensor, resumed[key]) for key, tensor in undisturbed.items()), name


def test_augmentation_on_the_device_is_another_run(settings):
    pretrain(replace(settings, epochs=1))
    with pytest.raises(ValueError, match="augment_on_device: None -> True"):
        pretrain(replace(settings, epochs=1, augment_on_device=True))


def test_workers_prepare_no_more_than_shared_memory_holds(settings, monkeypatch):
    megabyte = 10**6
    assert affordable_prefetch(megabyte, 4, 2, 100 * megabyte) == 2
    assert affordable_prefetch(10 * megabyte, 4, 8, 100 * megabyte) == 2
    with pytest.raises(ValueError, match=r"4 workers with a batch of 20 MB each need 120 MB of /dev/shm, where 64 MB"):
        affordable_prefetch(20 * megabyte, 4, 2, 64 * megabyte)
    whole = os.statvfs("/dev/shm")
    own = whole.f_bavail * whole.f_frsize
    assert affordable_prefetch(own // 10, 1, 100) in (6, 7, 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert affordable_prefetch(own // 10, 1, 100) in (2, 3)
    with pytest.raises(ValueError, match="prefetch is 0; give a number from 1 on"):
        pretrain(replace(settings, prefetch=0))
