"""A run that is killed again and again, also while it writes a checkpoint, ends with the weights of an undisturbed one."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import launches
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.manifest.records import Record, write_manifest
from mgll.training.checkpoint import newest_checkpoint

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain_mgll.py"
STEPS = 42


@pytest.fixture
def flags(tmp_path) -> list[str]:
    """Forty-two steps with crops, flips, jitter and dropout, decoded by a worker, and a checkpoint after each."""
    random, records = np.random.default_rng(0), []
    for index in range(24):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
        texts = {"disease": ("abnormal", f"disease {index % 3}"), "explanation": (f"words {index % 4}",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    (tmp_path / "7.png").write_bytes(b"")
    write_manifest(tmp_path / "manifest.jsonl", records)
    settings = {
        "manifest": tmp_path / "manifest.jsonl",
        "text_encoder": bert(tmp_path / "bert"),
        "text_training": "full",
    }
    settings |= {"text_dropout": 0.1, "encoder": "vit-nano-16", "image_size": 32, "feature_width": 16}
    settings |= {"epochs": STEPS // 6, "batch_size": 4, "workers": 1, "checkpoint_every": 1, "log_every": 1}
    settings |= {"max_bad_share": 0.1}
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def start(flags: list[str], out: Path) -> BaseProcess:
    """The recipe as a process, in a group of its own with its workers."""
    return launches.start([RECIPE, *flags, "--out", out], out.parent / f"{out.name}.log")


def ended(process: BaseProcess, seconds: float) -> int | None:
    process.join(seconds)
    return process.exitcode


def lines(out: Path) -> int:
    log = out / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def writing(out: Path) -> bool:
    """Whether a checkpoint is half written."""
    folder = out / "checkpoints"
    return folder.is_dir() and any(path.name.startswith(".step-") for path in folder.iterdir())


def wait(process: BaseProcess, reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 200
    while not reached():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.0003)


@pytest.mark.slow
def test_ten_kills_change_no_bit(flags, tmp_path):
    """SIGKILL to the whole group: while it starts, between, and while a checkpoint is half written; then SIGTERM and Ctrl-C."""
    random = np.random.default_rng(10)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "killed"
    other = start(flags, undisturbed)
    half_written = 0
    for moment in random.permutation(["start"] * 3 + ["step"] * 3 + ["checkpoint"] * 4):
        process, before = start(flags, out), lines(out)
        if moment == "start":
            time.sleep(random.uniform(0, 0.5))  # its libraries are there; half a second is models, manifest and worker
        else:
            new = int(random.integers(1, 4))
            wait(process, lambda goal=before + new: lines(out) >= goal)  # type: ignore[misc]
            if moment == "checkpoint":
                wait(process, lambda: writing(out))
            else:
                time.sleep(random.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)
        assert ended(process, 60) == -signal.SIGKILL
        half_written += writing(out)
        if whole := newest_checkpoint(out / "checkpoints"):  # under its final name there is no half of one
            assert load_file(whole / "model.safetensors")
            assert load_file(whole / "optimizer.safetensors")
    assert half_written >= 2, "the kills missed the moments that they were aimed at"
    for polite in (signal.SIGTERM, signal.SIGINT):  # a scheduler's and a keyboard's, which workers get too
        process, before = start(flags, out), lines(out)
        wait(process, lambda goal=before + 2: lines(out) >= goal)  # type: ignore[misc]
        os.killpg(process.pid, polite)
        assert ended(process, 60) == 130
    last = start(flags, out)
    assert (ended(last, 200), ended(other, 200)) == (0, 0)

    log = (tmp_path / "killed.log").read_text()
    assert log.count("stopped; the same command goes on from the newest checkpoint") == 2
    assert "Traceback" not in log
    assert (out / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    assert lines(out) == STEPS
    assert (out / "damaged_images.txt").read_text() == f"{tmp_path / '7.png'}: the file is empty (0 bytes)\n"
    files = [{str(path.relative_to(run)) for path in run.rglob("*")} for run in (out, undisturbed)]
    assert files[0] == files[1]  # no temporary file is left
    last_checkpoint = Path("checkpoints") / f"step-{STEPS:08d}"
    for name in ("mgll.ckpt", last_checkpoint / "model.safetensors", last_checkpoint / "optimizer.safetensors"):
        ours, theirs = load_file(out / name), load_file(undisturbed / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
