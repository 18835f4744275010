"""Every host in every precision: scored, tuned, saved, reloaded; whatever is trained is float32, and moves."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scored_question import letter_scores
from tiny.any_host import save_tiny, store_as

from mgll.images.preprocessing import open_image
from mgll.training.checkpoint import checkpoint_state
from mllm_adapters.ask import main as ask
from mllm_adapters.checkpoints.tensors import Held
from mllm_adapters.contract.finetune_record import read_finetune
from mllm_adapters.finetuning import loop
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.finetuning.parameter_groups import adamw
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading import precision
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.loading.precision import multiplies_in_bfloat16
from mllm_adapters.loading.tower_parts import PEFT_PREFIX
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

DTYPES = ("float32", "bfloat16", "float16")
#: LLaVA-1.5's own learning rates of its second stage: LoRA, and connector.
SETTINGS = FinetuneSettings(
    rank=2, batch_size=4, steps=5, learning_rate=2e-4, connector_learning_rate=2e-5, log_every=1
)


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [TrainingQuestion(path, f"What is {i}?", "ABCD"[i % 4]) for i, path in enumerate(photographs)]


def in_half(name: str, dtype: torch.dtype, out: Path) -> Path:
    """The tiny host saved in half precision, as almost every checkpoint is published."""
    return store_as(dtype, save_tiny(name, out))


@pytest.mark.slow_except("llava-bfloat16", "qwen-vl-bfloat16", "qwen-vl-float16")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HOSTS)
def test_every_host_in_every_precision(
    name: str, dtype: str, hosts: Callable[[str], Path], photographs: list[Path], questions, tmp_path: Path
) -> None:
    """Scored as in float32 but for rounding; five steps move what is trained, which is float32; saved, it answers the same."""
    host, image = hosts(name), open_image(photographs[0])
    ((whole,), (own,)) = (letter_scores(host, image, dtype=kind) for kind in ("float32", dtype))
    assert own.log_probs == pytest.approx(whole.log_probs, abs=0 if dtype == "float32" else 0.1)

    tuned = finetune(host, questions, tmp_path / "tuned", replace(SETTINGS, dtype=dtype))
    assert read_finetune(tuned).dtype == dtype
    losses = [json.loads(line)["loss"] for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 5
    trained = load_file(tuned / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert all(bool(tensor.isfinite().all()) for tensor in trained.values())
    assert any(bool(tensor.any()) for key, tensor in trained.items() if "lora_B" in key)

    again = load(tuned, dtype=dtype)
    stored = {adapter_name(n): p for n, p in again.model.named_parameters() if p.dtype == torch.float32}
    of_adapter = {n: tensor for n, tensor in trained.items() if n in stored}
    assert sum("lora_" not in n for n in of_adapter) == sum("lora_" not in n for n in trained if "pos_embed" not in n)
    assert all(torch.equal(stored[n], tensor) for n, tensor in of_adapter.items()), "nothing is rounded away"
    kept = Counter(p.dtype for n, p in again.model.named_parameters() if "lora_" not in n)
    assert max(kept, key=lambda kind: kept[kind]) == getattr(torch, dtype)
    (first,), (second,) = (letter_scores(tuned, image, dtype=dtype) for _ in range(2))
    assert first == second
    assert first.log_probs != own.log_probs


def adapter_name(name: str) -> str:
    """A parameter's name in the adapter's file."""
    return PEFT_PREFIX + name.replace(".modules_to_save", "").replace(".default", "")


def test_at_llavas_own_learning_rate_every_weight_of_the_connector_moves_under_bfloat16(
    questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    """Rounded to bfloat16, many of them would be where they were: the steps are smaller than a 256th of a weight."""
    base = in_half("llava", torch.bfloat16, tmp_path / "base")
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, dtype="bfloat16"))
    trained, before = (
        load_file(tuned / "adapter_model.safetensors"),
        load(base, dtype="float32").model.named_parameters(),
    )
    old = {adapter_name(name): parameter.detach() for name, parameter in before}
    weights = {n: t for n, t in trained.items() if n.endswith("linear_1.weight") and "projector" in n}
    assert weights
    for name, after in weights.items():
        assert float((after != old[name]).float().mean()) > 0.99
        assert float((after.bfloat16() == old[name].bfloat16()).float().mean()) > 0.2


def test_adamw_is_given_no_weights_in_half_precision(tmp_path: Path) -> None:
    loaded = load(in_half("llava", torch.bfloat16, tmp_path / "base"), dtype="bfloat16")
    model = add_lora(loaded.model, loaded.host, SETTINGS)
    trained = {p.dtype for p in model.parameters() if p.requires_grad}
    frozen = [p.dtype for p in model.parameters() if not p.requires_grad]
    assert trained == {torch.float32}
    assert frozen.count(torch.bfloat16) > 0.9 * len(frozen)
    adamw(model, loaded.host, SETTINGS)
    model.base_model.model.lm_head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"1 tensors to train are not float32, .*lm_head\.weight"):
        adamw(model, loaded.host, SETTINGS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_auto_goes_by_checkpoint_and_device(
    dtype: torch.dtype, tmp_path: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """InstructBLIP among them because transformers keeps its queries in float32 and names this as the dtype of the whole."""
    base, stored = in_half("instructblip", dtype, tmp_path / "base"), str(dtype).removeprefix("torch.")
    expected = "bfloat16" if multiplies_in_bfloat16("cpu") else "float32"
    loaded = load(base)
    assert loaded.model.language_projection.weight.dtype == getattr(torch, loaded.dtype)
    assert loaded.dtype == expected
    assert ask([str(base), "What?", "--image", str(photographs[0]), "--max-new-tokens", "2"]) == 0
    said = capsys.readouterr().err
    assert (f"the weights are {stored}, computed in {expected}" in said) == (expected != stored)
    assert ask([str(base), "What?", "--image", str(photographs[0]), "--max-new-tokens", "2", "--dtype", stored]) == 0
    assert "the weights are" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stored", "device", "tuned", "good", "expected"),
    [
        ("float32", "cuda", True, True, "float32"),
        ("float16", "cuda", True, True, "bfloat16"),
        ("bfloat16", "cpu", False, True, "bfloat16"),
        ("float16", "cuda", False, False, "float16"),
        ("float16", "cuda", True, False, "float32"),
        ("bfloat16", "cuda", False, False, "float32"),
        ("float16", "cpu", False, False, "float32"),
        ("float64", "cpu", False, True, "float32"),
    ],
)
def test_auto_on_devices_that_are_good_at_bfloat16_and_on_others(
    stored: str, device: str, tuned: bool, good: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_in_bfloat16", lambda _: good)
    part = Held(torch.zeros(3, dtype=getattr(torch, stored)))
    dtype, note = precision.settle_dtype("auto", {"weight": part}, device, tuned)
    assert dtype == expected
    assert bool(note) == (expected != stored)
    with pytest.raises(ValueError, match="dtype is int8; give one of auto, float32, bfloat16, float16"):
        precision.settle_dtype("int8", {"weight": part}, device)


def test_a_resumed_run_keeps_the_precision_that_it_began_with(
    questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings = in_half("llava", torch.bfloat16, tmp_path / "base"), replace(SETTINGS, checkpoint_every=2)
    monkeypatch.setattr(precision, "multiplies_in_bfloat16", lambda _: True)
    monkeypatch.setattr(loop, "save_checkpoint", stops_behind(2, loop.save_checkpoint))
    with pytest.raises(KeyboardInterrupt):
        finetune(base, questions, tmp_path / "killed", settings)
    monkeypatch.undo()
    monkeypatch.setattr(precision, "multiplies_in_bfloat16", lambda _: False)
    tuned = finetune(base, questions, tmp_path / "killed", settings)
    assert read_finetune(tuned).dtype == "bfloat16"
    whole = finetune(base, questions, tmp_path / "whole", replace(settings, dtype="bfloat16"))
    name = "adapter_model.safetensors"
    assert (tuned / name).read_bytes() == (whole / name).read_bytes()


def stops_behind(step: int, save: Callable[..., None]) -> Callable[..., None]:
    def stopping(folder: Path, done: int, *rest: object, **more: object) -> None:
        save(folder, done, *rest, **more)
        if done == step:
            raise KeyboardInterrupt

    return stopping


def test_float16_resumes_with_the_factor_on_its_loss(
    questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings = save_tiny("llava", tmp_path / "base"), replace(SETTINGS, dtype="float16", checkpoint_every=2)
    whole = finetune(base, questions, tmp_path / "whole", settings)
    monkeypatch.setattr(loop, "save_checkpoint", stops_behind(2, loop.save_checkpoint))
    with pytest.raises(KeyboardInterrupt):
        finetune(base, questions, tmp_path / "killed", settings)
    assert (
        checkpoint_state(tmp_path / "killed" / "checkpoints" / "step-00000002")["scaler"]["scale"] == loop.START_SCALE
    )
    monkeypatch.undo()
    tuned = finetune(base, questions, tmp_path / "killed", settings)
    name = "adapter_model.safetensors"
    assert (tuned / name).read_bytes() == (whole / name).read_bytes()
