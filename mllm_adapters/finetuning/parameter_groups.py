"""What is trained, in groups with learning rates of their own: connector, LoRA, and the tower block by block."""

from collections import defaultdict
from typing import Any

import torch
from torch import nn

from mgll.encoders.last_layers import block_numbers
from mllm_adapters.contract.host import Host
from mllm_adapters.loading.lora import connector_parameters
from mllm_adapters.loading.tower_parts import tower_blocks
from mllm_adapters.settings import FinetuneSettings


def adamw(model: nn.Module, host: Host, settings: FinetuneSettings) -> torch.optim.AdamW:
    """AdamW over all trained parameters, in groups with a `name` and a `peak` learning rate; on a GPU in its fused form.

    Raises:
        ValueError: if one is in half precision, in which most steps would be rounded away.
    """
    half = [n for n, p in model.named_parameters() if p.requires_grad and p.dtype != torch.float32]
    if half:
        raise ValueError(f"{len(half)} tensors to train are not float32, {half[0]} among them")
    groups = parameter_groups(model, host, settings)
    fused = all(parameter.device.type == "cuda" for group in groups for parameter in group["params"]) or None
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=fused)


def parameter_groups(model: nn.Module, host: Host, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """The groups that have parameters: `params`, `name`, `peak`.

    The tower's last trained block has `tower_learning_rate`; the one before it has `layer_decay` of that, and so on down to what
    lies in front of the blocks. What lies behind them has the rate of the last one.
    """
    connector, inside = connector_parameters(model, host), f".{host.tower}."
    groups: dict[tuple[str, float], list[nn.Parameter]] = defaultdict(list)
    groups[("connector", settings.connector_learning_rate)] = list(connector.values())
    rest = {n: p for n, p in model.named_parameters() if p.requires_grad and n not in connector}
    tower = [name for name in rest if inside in f".{name}"]
    blocks = tower_blocks(model, host) if tower else []
    places = block_numbers(tower, blocks)
    trained_blocks = [place for place in places.values() if 0 <= place < len(blocks)]
    last = max(trained_blocks, default=0)
    for name, parameter in rest.items():
        if name in places:
            depth = max(0, last - places[name])
            groups[(f"tower-{depth}", settings.tower_learning_rate * settings.layer_decay**depth)].append(parameter)
        else:
            groups[("lora", settings.learning_rate)].append(parameter)
    return [{"params": params, "name": name, "peak": peak} for (name, peak), params in groups.items() if params]


def set_learning_rates(groups: list[dict[str, Any]], factor: float) -> dict[str, float]:
    """Set every group's learning rate to this share of its peak; returns the rates by group."""
    for group in groups:
        group["lr"] = group["peak"] * factor
    return {group["name"]: group["lr"] for group in groups}
