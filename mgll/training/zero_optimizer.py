"""AdamW's moments under DeepSpeed ZeRO-1 and ZeRO-2, where every process holds a part of them, as whole tensors by parameter.

Therefore a checkpoint does not depend on how many processes wrote it. A run with another number of processes, or without DeepSpeed,
can resume from it.
"""

from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


def is_split(optimizer: Any) -> bool:
    """Whether ZeRO holds this optimizer in parts."""
    return hasattr(optimizer, "single_partition_of_fp32_groups")


def gather_moments(model: nn.Module, optimizer: Any, keep: bool) -> dict[str, Tensor]:
    """The optimizer's part of a checkpoint: `parameter/moment` -> CPU tensor; empty unless `keep`.

    Collective: all processes must call it.
    """
    # optional, from the extra `deepspeed`
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(optimizer)
    flat = optimizer.single_partition_of_fp32_groups[0]
    step = torch.as_tensor(optimizer.optimizer.state[flat]["step"]).cpu()
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            whole = {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
            if keep:
                tensors |= {f"{name}/{moment}": tensor.cpu() for moment, tensor in whole.items()}
                tensors[f"{name}/step"] = step.clone()
    return tensors


def scatter_moments(model: nn.Module, optimizer: Any, tensors: dict[str, Tensor]) -> None:
    """Load whole moments into this process's part of the optimizer, and the model's weights into ZeRO's own copy of them.

    Args:
        model: the model, with its weights loaded.
        optimizer: ZeRO's optimizer.
        tensors: `parameter/moment` -> tensor, as `gather_moments` returns them.
    """
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    step = next(value for key, value in tensors.items() if key.endswith("/step"))
    for flat in optimizer.single_partition_of_fp32_groups:
        zeros = {moment: torch.zeros_like(flat) for moment in MOMENTS}
        place = flat.device if optimizer.optimizer.defaults.get("fused") else "cpu"
        optimizer.optimizer.state[flat] = {"step": step.clone().to(place), **zeros}
    _link(optimizer)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, parameter.detach())
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, tensors[f"{name}/{moment}"], moment)


def _link(optimizer: Any) -> None:
    """Tell every parameter where its moments lie. DeepSpeed 0.19 does this only in its first step, and for the first group only."""
    from deepspeed.utils import lazy_init_hp_params_optimizer_state

    for parameters, flat in zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True):
        lazy_init_hp_params_optimizer_state(parameters, flat, optimizer.optimizer.state)
