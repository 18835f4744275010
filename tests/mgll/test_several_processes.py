"""Two processes under `accelerate launch`, plain and with DeepSpeed ZeRO-2, train to the weights of one, also after a kill.

Launches take most of the time, so each does several runs, and one of the training images is damaged in all of them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.files import write_text
from mgll.manifest.records import read_manifest
from mgll.settings import PretrainSettings
from mgll.synthetic import generate
from mgll.tower.file import load_tower
from mgll.training.precision import settle_precision
from mgll.training.pretraining import pretrain

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
ZERO2 = CONFIGS / "zero2.json"
SCRIPT = """
import json, os, signal, sys
from accelerate.state import AcceleratorState
from mgll.training.pretraining import pretrain
from mgll.settings import PretrainSettings
for run in json.loads(sys.argv[1]):
    stop = run.pop("stop", None)
    AcceleratorState._reset_state()  # another precision than that of the run before
    pretrain(PretrainSettings(**run), after_step=lambda step: step == stop and os.kill(os.getpid(), signal.SIGKILL))
    print("finished", run["out"], flush=True)
"""
#: What differs from a run with a frozen text encoder.
FORMS: dict[str, dict[str, Any]] = {
    "frozen": {"objective": "siglip"},  # which learns its temperature
    "trained-texts": {"text_training": "full"},
    "chunks": {"text_training": "full", "chunk": 3, "gradient_checkpointing": True},
    "supcon": {"text_training": "full", "objective": "supcon"},
}
STOP = 3  # between the checkpoints of steps 2 and 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("processes")
    manifest = generate(made / "eyes", 24, seed=0)
    damaged = Path(read_manifest(manifest, split="train")[3].image)
    damaged.write_bytes(damaged.read_bytes()[:200])
    bert(made / "bert")
    write_text(made / "run.py", SCRIPT)
    return made


def settings(folder: Path, out: str, **changes: Any) -> dict[str, Any]:
    return {
        "manifest": str(folder / "eyes" / "manifest.jsonl"),
        "out": str(folder / out),
        "encoder": "vit-nano-16",
        "image_size": 32,
        "feature_width": 16,
        "text_encoder": str(folder / "bert"),
        "epochs": 2,
        "batch_size": 8,
        "checkpoint_every": 2,
        "log_every": 1,
        "max_bad_share": 0.1,
        **changes,
    }


def launch(folder: Path, runs: list[dict[str, Any]], *options: str) -> subprocess.CompletedProcess[str]:
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *options]
    accelerate += ["--num_processes", "2", "--num_machines", "1", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*accelerate, str(folder / "run.py"), json.dumps(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def single(folder: Path, out: str, **changes: Any) -> Path:
    """A run of one process, this one; done once."""
    if not (folder / out / "mgll.ckpt").exists():
        pretrain(PretrainSettings(**settings(folder, out, **changes)))
    return folder / out


def weights(run: Path, file: str = "model") -> dict[str, torch.Tensor]:
    """Tower, projections, objective and text encoder after the last step."""
    return load_file(max(run.glob("checkpoints/step-*")) / f"{file}.safetensors")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(one: Path, several: Path) -> None:
    for a, b in zip(metrics(one), metrics(several), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["damaged"] == b["damaged"]
    ours, theirs = weights(one), weights(several)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert (one / "damaged_images.txt").read_text() == (several / "damaged_images.txt").read_text()
    assert_same_kind(one / "mgll.ckpt", several / "mgll.ckpt")
    assert (one / "mgll.seen").read_bytes() == (several / "mgll.seen").read_bytes()


def assert_same_kind(one: Path, several: Path) -> None:
    (model, header), (other, other_header) = load_tower(one), load_tower(several)
    assert header.preprocessing == other_header.preprocessing
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    assert shapes == {name: (tensor.shape, tensor.dtype) for name, tensor in other.state_dict().items()}


@pytest.fixture(scope="module")
def two(folder) -> Path:
    runs = [settings(folder, f"two-{name}", **changes) for name, changes in FORMS.items()]
    done = launch(folder, runs, "--multi_gpu", "--mixed_precision", "no")  # without a GPU: processes joined by gloo
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_train_to_the_weights_of_one(two, form):
    assert_same_training(single(two, f"one-{form}", **FORMS[form]), two / f"two-{form}")


@pytest.fixture(scope="module")
def zero2(folder) -> Path:
    """Runs under ZeRO-2: `whole`; `killed` at step 3 and started again; `bf16`."""
    pytest.importorskip("deepspeed")
    if not shutil.which("g++"):
        pytest.skip("DeepSpeed compiles its communication between processes of a CPU, and there is no g++")
    texts = {"text_training": "full"}
    options = ("--use_deepspeed", "--deepspeed_config_file", str(ZERO2))
    whole, killed = settings(folder, "whole", **texts), settings(folder, "killed", **texts)
    first = launch(folder, [whole, {**killed, "stop": STOP}], *options)
    assert first.returncode != 0
    assert f"finished {whole['out']}" in first.stdout, first.stderr[-4000:]
    assert "Signal 9 (SIGKILL)" in first.stderr
    assert not (folder / "killed" / "mgll.ckpt").exists()
    second = launch(folder, [killed, settings(folder, "bf16", mixed_precision="bf16", **texts)], *options)
    assert second.returncode == 0, second.stderr[-4000:]
    return folder


def test_zero2_trains_to_the_weights_of_one_process(zero2):
    one = single(zero2, "one-trained-texts", text_training="full")
    assert_same_training(one, zero2 / "whole")
    ours, theirs = weights(one, "optimizer"), weights(zero2 / "whole", "optimizer")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_a_killed_run_under_zero2_resumes_to_the_same_bits(zero2):
    for file in ("model", "optimizer"):
        ours, theirs = weights(zero2 / "whole", file), weights(zero2 / "killed", file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert metrics(zero2 / "whole") == metrics(zero2 / "killed")


def test_one_process_goes_on_with_what_zero2_left(zero2):
    """A checkpoint does not say how many processes wrote it."""
    shutil.copytree(zero2 / "whole", zero2 / "kept")
    shutil.rmtree(max((zero2 / "whole").glob("checkpoints/step-*")))
    (zero2 / "whole" / "mgll.ckpt").unlink()
    single(zero2, "whole", text_training="full")
    assert_same_training(zero2 / "kept", zero2 / "whole")


def test_bf16_under_zero2_trains_float32_weights(zero2):
    for half, full in zip(metrics(zero2 / "bf16"), metrics(zero2 / "killed"), strict=True):
        assert half["loss"] != full["loss"]
        assert half["loss"] == pytest.approx(full["loss"], rel=0.02)
    assert {tensor.dtype for tensor in weights(zero2 / "bf16").values()} == {torch.float32}
    assert_same_kind(zero2 / "killed" / "mgll.ckpt", zero2 / "bf16" / "mgll.ckpt")


@pytest.fixture
def another_precision():
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_bf16_trains_as_float32_does_to_its_precision(folder, another_precision):
    half = single(folder, "half", mixed_precision="bf16", gradient_checkpointing=True, text_training="full")
    AcceleratorState._reset_state()
    full = single(folder, "one-trained-texts", text_training="full")
    for a, b in zip(metrics(half), metrics(full), strict=True):
        assert a["loss"] != b["loss"]
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02)
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}
    assert settle_precision(PretrainSettings(mixed_precision="auto")).mixed_precision == "no"  # without a GPU


def test_adding_up_gradients_of_smaller_batches_is_refused(folder, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")  # what the launcher's configuration sets
    with pytest.raises(ValueError, match=r"each sees fewer texts and images.*--chunk"):
        pretrain(PretrainSettings(**settings(folder, "accumulated")))


@pytest.mark.parametrize(
    "options",
    [
        ("--use_deepspeed", "--deepspeed_config_file", str(CONFIGS / "zero3.json")),
        ("--use_fsdp", "--fsdp_version", "2", "--mixed_precision", "no"),
    ],
    ids=["zero3", "fsdp2"],
)
def test_split_weights_are_refused_before_anything_is_loaded(folder, options):
    if "--use_deepspeed" in options:
        pytest.importorskip("deepspeed")
    done = launch(folder, [settings(folder, "refused", encoder="no such encoder")], *options)
    assert done.returncode != 0
    assert "splits the weights, which a tower does not need" in done.stderr
    assert not (folder / "refused").exists()
