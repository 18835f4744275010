"""Pretraining: resumes bit for bit after a kill, and refuses what it cannot do."""

import json
import os
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import launches
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.files import sha256
from mgll.formats import FormatError
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.settings import ObjectiveSettings, PretrainSettings
from mgll.tower.curve import curve_of
from mgll.tower.file import load_tower, read_header
from mgll.tower.seen import read_seen, seen_path
from mgll.tower.standardise import standardise_tower
from mgll.training.data import TextLevel, text_levels
from mgll.training.pretraining import pretrain
from mgll.training.steps import global_batches, learning_rate_factor, process_share
from mgll.training.texts import TextTable
from mgll.vocabulary.label_texts import describe_labels

LABELS = (("Health",), ("Glaucoma",), ("Mild NPDR", "DME"), ("Drusen",))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Twenty-four small pictures whose colour depends on their label."""
    folder = tmp_path_factory.mktemp("photographs")
    random, records = np.random.default_rng(0), []
    for index in range(24):
        kind = index % 4
        pixels = (
            random.integers(0, 60, (40, 40, 3)) + np.array([[60, 60, 60], [150, 0, 0], [0, 150, 0], [0, 0, 150]])[kind]
        )
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{index}.png")
        texts = describe_labels(LABELS[kind])
        if index % 7 == 0:
            texts.pop("explanation")
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts, labels=LABELS[kind]))
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture
def settings(manifest, tmp_path) -> PretrainSettings:
    return PretrainSettings(
        manifest=str(manifest),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=3,
        batch_size=8,
        checkpoint_every=2,
        log_every=1,
        text_encoder="embedded",
    )


def metrics(out) -> list[dict]:
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def test_training_writes_a_tower_and_its_loss_falls(settings):
    path = pretrain(replace(settings, epochs=8))
    model, header = load_tower(path)
    assert model(torch.zeros(2, 3, 32, 32)).last_hidden_state.shape == (2, 1 + 4, 64)
    assert (header.preprocessing.size, header.pooling) == (32, "mean")
    assert header.origin["settings"]["objective"] == "mgll"
    losses = [line["loss"] for line in metrics(settings.out)]
    assert len(losses) == 24
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    curve = curve_of(Path(settings.out) / "mgll.ckpt")
    assert curve is not None
    assert curve.terms["loss"] == pytest.approx(losses, rel=1e-4)
    assert read_header(Path(settings.out) / "mgll.ckpt").origin["curve"].startswith("step loss")


@pytest.mark.slow_except("4-frozen")
@pytest.mark.parametrize(("stop", "text_training"), [(1, "frozen"), (4, "frozen"), (5, "full"), (7, 1)])
def test_a_killed_run_resumes_to_the_same_bits(settings, tmp_path, stop, text_training):
    settings = replace(settings, text_encoder=bert(tmp_path / "bert"), text_training=text_training, text_dropout=0.1)
    undisturbed = pretrain(replace(settings, out=str(tmp_path / "undisturbed")))

    def kill(step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, after_step=kill)
    resumed = pretrain(settings)
    ours, theirs = load_file(resumed), load_file(undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert metrics(settings.out) == metrics(tmp_path / "undisturbed")


@pytest.mark.slow
def test_the_statistics_of_batch_norms_are_resumed_too(settings, tmp_path):
    conv = replace(settings, encoder="timm:resnet10t", encoder_options={"channels": [4, 8, 12, 16]})
    undisturbed = load_file(pretrain(replace(conv, out=str(tmp_path / "undisturbed"))))

    def kill(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(conv, after_step=kill)
    resumed = load_file(pretrain(conv))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in undisturbed.items())
    assert {int(tensor) for name, tensor in resumed.items() if name.endswith("num_batches_tracked")} == {9}


def test_checkpoints_hold_the_text_weights_that_were_trained(settings, tmp_path):
    folder = bert(tmp_path / "bert")
    pretrain(replace(settings, text_encoder=folder, text_training=1, epochs=1))
    before = load_file(Path(folder) / "model.safetensors")
    after = load_file(Path(settings.out) / "checkpoints" / "step-00000003" / "model.safetensors")
    texts = {n.removeprefix("text_encoder.model."): t for n, t in after.items() if n.startswith("text_encoder.")}
    assert texts.keys() == {name for name in before if name.startswith("encoder.layer.2.")}
    assert not any(torch.equal(tensor, before[name]) for name, tensor in texts.items() if "key.bias" not in name)


RUN = """
import sys, json, torch
from mgll.settings import ObjectiveSettings, PretrainSettings
from mgll.training.pretraining import pretrain
settings = json.loads(sys.argv[1])
settings["betas"], settings["mean"], settings["std"] = (tuple(settings[k]) for k in ("betas", "mean", "std"))
pretrain(PretrainSettings(**{**settings, "trackers": ()}), after_step=lambda step: print("step", step, flush=True))
"""


def command(settings, *launcher) -> list[str]:
    return [*launcher, json.dumps(asdict(settings))]


@pytest.mark.slow
def test_a_run_killed_by_the_system_resumes_to_the_same_bits(settings, tmp_path):
    """SIGKILL at a random moment, which the process cannot prepare for."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    undisturbed = pretrain(replace(settings, out=str(tmp_path / "undisturbed")))
    said = tmp_path / "said.txt"
    stop = int(np.random.default_rng(os.getpid()).integers(1, 8))
    process = launches.start(command(settings, str(script)), said, tmp_path / "errors.txt")
    while process.is_alive() and f"step {stop}\n" not in said.read_text():
        time.sleep(0.001)
    process.kill()
    process.join()
    resumed = load_file(pretrain(settings))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in load_file(undisturbed).items()), (
        f"killed at {stop}"
    )


def test_other_settings_do_not_continue_a_run(settings):
    pretrain(replace(settings, epochs=1))
    with pytest.raises(ValueError, match=r"learning_rate: 0\.001 -> 0\.002"):
        pretrain(replace(settings, epochs=1, learning_rate=0.002))


@pytest.mark.slow
def test_what_decides_nothing_about_the_weights_may_change(settings, tmp_path):
    def kill(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    undisturbed = load_file(pretrain(replace(settings, out=str(tmp_path / "undisturbed"))))
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, after_step=kill)
    other = {"workers": 1, "cache_images": False, "checkpoint_every": 5, "log_every": 2, "max_bad_share": 0.5}
    resumed = load_file(pretrain(replace(settings, **other)))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in undisturbed.items())
    assert json.loads((Path(settings.out) / "settings.json").read_text())["checkpoint_every"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 64}, "24 training images, fewer than one batch of 64"),
        ({"encoder": "vit-giant"}, "unknown encoder 'vit-giant'; known: vit-nano-16"),
        ({"image_size": 40}, "do not tile 40 px"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(settings, change, message):
    with pytest.raises(ValueError, match=message):
        pretrain(replace(settings, **change))


@pytest.mark.slow
def test_clip_sees_the_same_words_as_mgll(settings):
    records = [
        Record(image="a", split="train", group="a", texts=describe_labels(["Mild NPDR", "DME"])),
        Record(image="b", split="train", group="b", texts=describe_labels(["Health"])),
    ]
    separate, caption = text_levels(records, levels="separate"), text_levels(records, levels="caption")["caption"]
    for row, record in enumerate(records):
        words = ", ".join(separate[level].unique[text] for level in separate for text in separate[level].of_record(row))
        assert caption.unique[caption.of_record(row)[0]] == words == record.caption
    pretrain(replace(settings, objective="clip", epochs=1))
    assert read_header(Path(settings.out) / "mgll.ckpt").origin["objective"]["levels"] == "caption"


def test_objective_settings_replace_the_named_ones(settings):
    ablation = ObjectiveSettings(sclip=1.0, pointwise=0.0, smooth_kl=0.0)
    pretrain(replace(settings, objective_settings=ablation, epochs=1))
    assert set(metrics(settings.out)[-1]) == {"step", "epoch", "learning_rate", "damaged", "loss", "sclip"}


def test_batches_hold_each_image_once_an_epoch_and_resume_anywhere():
    batches = list(global_batches(26, 8, seed=3, epoch=1))
    assert len(batches) == 3
    assert len({index for batch in batches for index in batch}) == 24
    assert list(global_batches(26, 8, seed=3, epoch=1, first=2)) == batches[2:]
    assert batches != list(global_batches(26, 8, seed=3, epoch=2))
    assert process_share(batches[0], 0, 2) + process_share(batches[0], 1, 2) == batches[0]


def test_incidence_counts_repeats_and_keeps_rows_without_texts():
    level = TextLevel(("a", "b", "c"), np.array([0, 0, 2]), np.array([0, 2, 2, 3]))
    picked = TextTable({"level": level}, {"level": np.arange(3)}, None).pick([2, 0, 1])
    assert picked.inputs[0].tolist() == [0, 2]
    assert picked.levels["level"].incidence(3, "cpu").tolist() == [[0, 1], [2, 0], [0, 0]]


def test_learning_rate_rises_then_falls_to_zero():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[-1] < 0.001
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_a_tower_remembers_its_images(settings, manifest, tmp_path):
    tower = pretrain(settings)
    seen, origin = read_seen(tower), read_header(tower).origin
    assert origin["settings"]["remember_images"] is True
    assert origin["images_seen"] == {"images": 24, "sha256": sha256(tower.with_suffix(".seen")), "not_known": ""}
    assert set(seen.files) == {sha256(record.image)[:16] for record in read_manifest(manifest)}
    # a tower that starts from it knows its images too, and one from elsewhere says what it does not know
    second = pretrain(replace(settings, start_weights=str(tower), out=str(tmp_path / "second")))
    assert set(read_seen(second).files) == set(seen.files)
    assert read_seen(second).origin["not_known"] == ""
    seen_path(second).unlink()
    with pytest.raises(FormatError, match=r"mgll\.seen: no such file; copy it along with"):
        read_seen(second)
    third = pretrain(replace(settings, start_weights=str(second), out=str(tmp_path / "third")))
    assert "mgll.ckpt" in str(read_seen(third).origin["not_known"])
    seen_path(third).write_bytes(tower.with_suffix(".seen").read_bytes()[:-8])
    with pytest.raises(FormatError, match="not the images that"):
        read_seen(third)


def test_a_tower_need_not_remember(settings):
    tower = pretrain(replace(settings, remember_images=False))
    assert not seen_path(tower).exists()
    assert read_header(tower).origin["images_seen"] is None
    with pytest.raises(FormatError, match="did not record which images it saw; give the manifest"):
        read_seen(tower)


def test_a_standardised_tower_keeps_its_memory(settings, manifest, tmp_path):
    tower, images = pretrain(settings), [record.image for record in read_manifest(manifest)]
    standardise_tower(tower, images, tmp_path / "standardised.ckpt")
    assert np.array_equal(read_seen(tmp_path / "standardised.ckpt").rows, read_seen(tower).rows)
