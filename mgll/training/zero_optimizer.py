"""AdamW's moments under DeepSpeed ZeRO, where every process holds a part of them, as whole tensors by parameter.

Therefore a checkpoint does not depend on how many processes wrote it. A run with another number of processes, or without DeepSpeed,
can resume from it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mgll.training.split_weights import fill_tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


def is_split(optimizer: Any) -> bool:
    """Whether ZeRO, of any stage, holds this optimizer in parts."""
    return bool(_parts(optimizer))


def gather_moments(model: nn.Module, optimizer: Any, keep: bool) -> dict[str, Tensor]:
    """The optimizer's part of a checkpoint: `parameter/moment` -> CPU tensor; empty unless `keep`.

    Collective: all processes must call it.
    """
    # optional, from the extra `deepspeed`
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(optimizer)
    step = torch.as_tensor(optimizer.optimizer.state[_parts(optimizer)[0]]["step"], dtype=torch.float32).cpu()
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            whole = {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
            if keep:
                tensors |= {f"{name}/{moment}": tensor.cpu() for moment, tensor in whole.items()}
                tensors[f"{name}/step"] = step.clone()
    return tensors


def scatter_moments(
    model: nn.Module, optimizer: Any, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> None:
    """Load whole moments into this process's part of the optimizer, and whole weights into the model and ZeRO's own copy of them.

    Collective: all processes must call it.

    Args:
        model: the model.
        optimizer: ZeRO's optimizer.
        tensors: `parameter/moment` -> tensor, as `gather_moments` returns them.
        weights: the trained weights by name.
    """
    step = next(value for key, value in tensors.items() if key.endswith("/step"))
    inner = optimizer.optimizer
    for flat in _parts(optimizer):
        zeros = {moment: torch.zeros_like(flat) for moment in MOMENTS}
        place = flat.device if inner.defaults.get("fused") else "cpu"
        # DeepSpeed's own AdamW counts its steps with a number, torch's with a tensor
        counter = int(step) if type(inner).__module__.startswith("deepspeed") else step.clone().to(place)
        inner.state[flat] = {"step": counter, **zeros}
    _link(optimizer)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fill_tensor(parameter, weights[name])
            _set(optimizer, parameter, weights[name], None)
            for moment in MOMENTS:
                _set(optimizer, parameter, tensors[f"{name}/{moment}"], moment)


def _set(optimizer: Any, parameter: Any, value: Tensor, moment: str | None) -> None:
    """Write this process's part of a moment, or of ZeRO's float32 copy of the weight where `moment` is None."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    value = value.to(_parts(optimizer)[0].device).float()
    if hasattr(parameter, "ds_id"):
        # DeepSpeed's function for whole values fails where the number of values does not divide by the processes
        size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank(parameter.ds_process_group)
        padded = torch.zeros(size * (rank + 1), device=value.device)
        flat = value.flatten()[: len(padded)]
        padded[: len(flat)] = flat
        part = padded[size * rank :]
        if moment is None:
            safe_set_local_fp32_param(parameter, part)
        else:
            safe_set_local_optimizer_state(parameter, part, moment)
    elif moment is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, moment)


def _parts(optimizer: Any) -> list[Tensor]:
    """This process's part of the float32 weights, a flat tensor for every group; empty without ZeRO."""
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):  # stages 1 and 2; stage 3
        if hasattr(optimizer, name):
            return list(getattr(optimizer, name))
    return []


def _link(optimizer: Any) -> None:
    """Tell every parameter where its moments lie. DeepSpeed 0.19 does this only in its first step, and for the first group only."""
    if not hasattr(optimizer, "bit16_groups"):
        return
    from deepspeed.utils import lazy_init_hp_params_optimizer_state

    for parameters, flat in zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True):
        lazy_init_hp_params_optimizer_state(parameters, flat, optimizer.optimizer.state)
