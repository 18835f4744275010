"""Several processes: features of all of them, with gradients that equal those of one process with the global batch."""

import os
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor


def start_accelerator(**settings: Any) -> Accelerator:
    """An `Accelerator` that also counts its processes right on a machine without a GPU."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if (
        several and not torch.cuda.is_available()
    ):  # unless told gloo, accelerate 1.15 counts one process where there are two
        settings["kwargs_handlers"] = [InitProcessGroupKwargs(backend="gloo")]
    return Accelerator(**settings)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        # Every process computes the same global loss, so the slice of its own gradient is already the whole one. DistributedData-
        # Parallel will divide the sum over processes by their number; undo that for what only this process holds.
        size = dist.get_world_size()
        return gradients[0].chunk(size)[dist.get_rank()] * size


def gather_features(local: Tensor) -> Tensor:
    """Rows of all processes in rank order: [n, D] -> [n * processes, D]; the input itself in a single process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return torch.as_tensor(_Gather.apply(local))


def gather_flags(local: Tensor) -> Tensor:
    """The same for booleans [n], without gradient."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    parts = [torch.empty_like(local, dtype=torch.uint8) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local.to(torch.uint8).contiguous())
    return torch.cat(parts).bool()
