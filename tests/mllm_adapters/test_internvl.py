"""InternVL 3.5 in the -hf layout: InternVL's class around a Qwen3."""

from collections.abc import Callable
from pathlib import Path

import torch
from scored_question import letter_scores
from tiny.internvl import save_internvl

from mgll.images.preprocessing import open_image
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host, host_of
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings


def test_a_graft_on_internvl_3_5(make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path) -> None:
    save_internvl(tmp_path / "host", "qwen3")
    host = load(tmp_path / "host")
    assert host.host is get_host("internvl") is host_of(host.model.config.to_dict())
    assert type(host.model.model.language_model).__name__ == "Qwen3Model"
    graft_tower(host.host, tmp_path / "host", make_tower(size=32, hidden_size=24), tmp_path / "graft")
    graft = load(tmp_path / "graft")
    norm = "model.language_model.layers.0.self_attn.q_norm.weight"  # Qwen2 has none
    assert torch.equal(graft.model.state_dict()[norm], host.model.state_dict()[norm])
    first, second = letter_scores(tmp_path / "graft", *(open_image(path) for path in photographs[:2]))
    assert first.log_probs != second.log_probs
    model = add_lora(graft.model, graft.host, FinetuneSettings(rank=2))
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert len(adapted) == 2 * 7
