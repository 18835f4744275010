"""Fine-tuning checkpoints in half precision: whatever is trained is float32, and stays a number."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scored_question import letter_scores
from tiny.any_host import save_tiny, store_as

from mgll.images.preprocessing import open_image
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

SETTINGS = FinetuneSettings(rank=2, alpha=4.0, batch_size=4, steps=4, learning_rate=1e-2, log_every=1)


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [TrainingQuestion(path, f"What is {i}?", "ABCD"[i % 4]) for i, path in enumerate(photographs)]


def in_half(name: str, dtype: torch.dtype, out: Path) -> Path:
    """The tiny host saved in half precision, as almost every checkpoint is published."""
    return store_as(dtype, save_tiny(name, out))


def test_instructblip_in_float16(
    questions: list[TrainingQuestion], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers keeps its queries in float32 and names this as the dtype of the whole."""
    base = in_half("instructblip", torch.float16, tmp_path / "base")
    loaded = load(base)
    assert loaded.model.dtype == torch.float32
    assert loaded.model.language_projection.weight.dtype == torch.float16
    tuned = finetune(base, questions, tmp_path / "tuned", SETTINGS)
    assert "weights are float16, in which gradients overflow; trained in float32" in capsys.readouterr().out
    trained = load_file(tuned / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in trained.values())
    losses = [json.loads(line)["loss"] for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    load(tuned)


@pytest.mark.slow_except("bfloat16-qwen-vl", "qwen-vl-bfloat16")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", HOSTS)
def test_every_host_answers_in_half_precision(
    name: str, dtype: torch.dtype, hosts: Callable[[str], Path], photographs: list[Path], tmp_path: Path
) -> None:
    """Nearly as it does in float32; Qwen-VL's positions, a buffer, stayed in float32 and met weights that were not."""
    image = open_image(photographs[0])
    (whole,), (half,) = (
        letter_scores(folder, image) for folder in (hosts(name), in_half(name, dtype, tmp_path / "half"))
    )
    assert half.log_probs == pytest.approx(whole.log_probs, abs=0.1)


@pytest.mark.slow_except("llava", "instructblip")
@pytest.mark.parametrize("name", HOSTS)
def test_what_is_trained_of_bfloat16_is_float32(name: str, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    base, host = in_half(name, torch.bfloat16, tmp_path / "base"), get_host(name)
    loaded = load(base)
    model = add_lora(loaded.model, host, SETTINGS)
    trained = {n: p.dtype for n, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == {torch.float32}
    kept = [p.dtype for p in model.parameters() if not p.requires_grad]
    assert kept.count(torch.bfloat16) > 0.9 * len(kept)
    tuned = finetune(base, questions, tmp_path / "tuned", SETTINGS)
    stored = load_file(tuned / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in stored.values())
    again = load(tuned)
    assert {p.dtype for n, p in again.model.named_parameters() if "lora_" not in n} <= {torch.bfloat16, torch.float32}


def test_a_step_too_small_for_bfloat16_is_not_lost(
    hosts: Callable[[str], Path], questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    base = in_half("llava", torch.bfloat16, tmp_path / "base")
    settings = FinetuneSettings(rank=0, batch_size=4, steps=2, connector_learning_rate=1e-5, warmup=0.0)
    tuned = finetune(base, questions, tmp_path / "tuned", settings)
    name = "multi_modal_projector.linear_1.weight"
    before = next(t for n, t in load(base).model.named_parameters() if n.endswith(name)).detach().float()
    after = next(t for n, t in load_file(tuned / "adapter_model.safetensors").items() if n.endswith(name))
    moved = (after - before).abs()
    assert (moved > 0).float().mean() > 0.9
    assert torch.equal(after.bfloat16(), before.bfloat16()) or moved.max() < 1e-3
