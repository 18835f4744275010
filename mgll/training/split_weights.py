"""Weights of which every process holds a part (DeepSpeed ZeRO-3, FSDP2), as whole tensors, and back.

Whole weights need no particular launcher: what is written of them is plain safetensors, whoever trained.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn


def split_again(model: nn.Module) -> None:
    """Let FSDP2 split what it keeps whole after a forward pass without gradients; its parameters are other objects until then."""
    if not dist.is_available() or not dist.is_initialized():
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_tensor(tensor: Tensor, keep: bool = True) -> Tensor | None:
    """A CPU copy of a tensor, gathered if it is split; None unless `keep`. Collective for tensors that are split."""
    if _under_zero3(tensor):
        # optional, from the extra `deepspeed`
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return _copied(tensor) if keep else None
    whole = tensor.full_tensor() if _under_fsdp(tensor) else tensor  # type: ignore[attr-defined]
    return _copied(whole) if keep else None


def whole_weights(weights: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """CPU copies of named weights, each gathered if it is split; empty unless `keep`. Collective: all processes must call it."""
    found = {name: whole_tensor(weight, keep) for name, weight in weights.items()}
    return {name: weight for name, weight in found.items() if weight is not None}


@torch.no_grad()
def fill_tensor(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole value into a tensor of which this process may hold a part. Collective for tensors that are split."""
    if _under_zero3(tensor):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor], modifier_rank=0):
            tensor.copy_(value)
    else:
        tensor.copy_(own_part(value, tensor))


def own_part(value: Tensor, like: Tensor) -> Tensor:
    """A whole value, split as `like` is under FSDP2; where that is not split, the value itself on its device."""
    value = value.to(like.device)
    if not _under_fsdp(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(mesh.device_type), mesh, placements).to(like.device)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _under_zero3(tensor: Tensor) -> bool:
    return hasattr(tensor, "ds_id")


def _under_fsdp(tensor: Tensor) -> bool:
    if not dist.is_available() or not dist.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
