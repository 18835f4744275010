"""Fine-tuning: what learns, what stays, and that a kill or a fresh process changes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mllm_adapters.finetune import finetune
from mllm_adapters.llava import HOST
from mllm_adapters.loading import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion
from mllm_adapters.transplant import graft

SETTINGS = FinetuneSettings(rank=2, batch_size=4, steps=6, learning_rate=1e-2, checkpoint_every=2, log_every=1)


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [
        TrainingQuestion(path, f"What is {i}?\nA. w\nB. x\nC. y\nD. z", "ABCD"[i % 4])
        for i, path in enumerate([*photographs, *photographs])
    ]


@pytest.fixture(scope="module")
def grafted(host_directory: Path, make_tower: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graft") / "llava-mgll"
    graft(HOST, host_directory, make_tower(), out)
    return out


def test_only_language_model_and_connector_learn(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    out = finetune(grafted, questions, tmp_path / "tuned", SETTINGS)
    before, after = load(grafted).model.state_dict(), load(out).model.state_dict()
    names = {name for name in after if "vision_tower" in name}
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)
    stored = load_file(out / "adapter_model.safetensors")
    assert all("language_model" in name or "multi_modal_projector" in name for name in stored)
    b = [tensor for name, tensor in stored.items() if "lora_B" in name]
    assert len(b) == 14
    assert all(tensor.abs().max() > 0 for tensor in b)
    old = before["model.multi_modal_projector.linear_1.weight"]
    new = next(t for n, t in stored.items() if n.endswith("multi_modal_projector.linear_1.weight"))
    assert not torch.equal(old, new)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
