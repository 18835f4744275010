"""Fine-tuning under `accelerate launch` with two processes of a CPU: every form of parallelism trains what one process trains.

Each form has two launches, because they take most of the time: a whole run with a frozen tower, one that trains the tower too, and
one that is killed between two checkpoints; then that one again.
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
from tiny.any_host import save_tiny

from mgll.files import write_text
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
DEEPSPEED = ("--use_deepspeed", "--deepspeed_config_file")
FORMS: dict[str, tuple[str, ...]] = {
    "ddp": ("--multi_gpu", "--mixed_precision", "no"),  # without a GPU: processes joined by gloo
    "zero2": (*DEEPSPEED, str(CONFIGS / "zero2.json")),
    "zero3": (*DEEPSPEED, str(CONFIGS / "zero3.json")),
    "zero2_offload": (*DEEPSPEED, str(CONFIGS / "zero2_offload.json")),
    "zero3_offload": (*DEEPSPEED, str(CONFIGS / "zero3_offload.json")),
    "fsdp2": ("--use_fsdp", "--fsdp_version", "2", "--mixed_precision", "no"),
}
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from accelerate.state import AcceleratorState
from mllm_adapters.finetuning import loop
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion
torch.set_num_threads(1)
base, questions, runs = json.loads(sys.argv[1])
questions = [TrainingQuestion(Path(image), *rest) for image, *rest in questions]
factor = loop.learning_rate_factor
for out, settings, stop in runs:
    def killed_at(step, *rest, stop=stop):
        if step == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return factor(step, *rest)
    loop.learning_rate_factor = killed_at
    AcceleratorState._reset_state()
    finetune(base, questions, out, FinetuneSettings(**settings))
    print("finished", out, flush=True)
"""
#: Dropout draws other numbers in another process.
SHARED: dict[str, Any] = {"rank": 2, "dropout": 0.0, "batch_size": 8, "steps": 5, "learning_rate": 1e-2}
SHARED |= {"checkpoint_every": 2, "log_every": 1, "held_out": 0.2, "validate_every": 2}
TOWER: dict[str, Any] = {"tower": "full", "tower_learning_rate": 1e-3, "layer_decay": 0.5}
STOP = 3  # between the checkpoints of steps 2 and 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llava", tmp_path_factory.mktemp("base") / "llava")


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    text = "What is {}?\nA. w\nB. x\nC. y\nD. z"
    return [
        TrainingQuestion(path, text.format(i), "ABCD"[i % 4], "", f"patient-{i % 6}")
        for i, path in enumerate([*photographs, *photographs])
    ]


@pytest.fixture(scope="module")
def one(base: Path, questions: list[TrainingQuestion], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs in one process, without accumulation."""
    out = tmp_path_factory.mktemp("one")
    for name, settings in (("frozen", SHARED), ("tower", SHARED | TOWER)):
        AcceleratorState._reset_state()
        finetune(base, questions, out / name, FinetuneSettings(**settings))
    return out


def launch(
    folder: Path, base: Path, questions: list[TrainingQuestion], runs: list[Any], *options: str
) -> subprocess.CompletedProcess[str]:
    write_text(folder / "run.py", SCRIPT)
    rows = [(str(q.image), q.question, q.letter, q.caption, q.group) for q in questions]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *options]
    accelerate += ["--num_processes", "2", "--num_machines", "1", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*accelerate, str(folder / "run.py"), json.dumps([str(base), rows, runs])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("questions_per_second", "memory_gib")} for line in lines]


def assert_same_training(one: Path, several: Path) -> None:
    for expected, found in zip(metrics(one), metrics(several), strict=True):
        for name in ("loss", "gradient_norm", *(["validation_loss"] if "validation_loss" in expected else [])):
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name
        assert found.get("validation_accuracy") == expected.get("validation_accuracy")
        assert found["learning_rate"] == expected["learning_rate"]
    for file in {path.name for path in one.glob("*.safetensors")} | {"adapter_model.safetensors"}:
        ours, theirs = load_file(one / file), load_file(several / file)
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_train_what_one_trains_and_resume_to_the_same_bits(
    form: str, base: Path, questions: list[TrainingQuestion], one: Path, tmp_path: Path
) -> None:
    if "--use_deepspeed" in FORMS[form]:
        pytest.importorskip("deepspeed")
        if not shutil.which("g++"):
            pytest.skip("DeepSpeed compiles its communication between processes of a CPU, and there is no g++")
    shared = SHARED | {"gradient_accumulation_steps": 4}
    runs = {name: str(tmp_path / name) for name in ("frozen", "tower", "killed")}
    first = launch(
        tmp_path,
        base,
        questions,
        [
            (runs["frozen"], shared | {"feature_cache": str(tmp_path / "features")}, None),
            (runs["tower"], shared | TOWER, None),
            (runs["killed"], shared | TOWER, STOP),
        ],
        *FORMS[form],
    )
    assert f"finished {runs['tower']}" in first.stdout, first.stderr[-4000:]
    assert first.returncode != 0
    assert not (tmp_path / "killed" / "finetune.json").exists()
    for name in ("frozen", "tower"):
        assert_same_training(one / name, tmp_path / name)
    second = launch(tmp_path, base, questions, [(runs["killed"], shared | TOWER, None)], *FORMS[form])
    assert second.returncode == 0, second.stderr[-4000:]
    assert "resuming after step 2" in second.stdout
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "tower")
    for file in ("adapter_model.safetensors", "tower.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "tower" / file).read_bytes()
    assert not list((tmp_path / "killed").rglob("*.pt"))
    load(tmp_path / "killed")
