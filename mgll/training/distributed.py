"""Training in several processes: each sees the features of all, and gradients equal those of one process with the global batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

#: Whether the launcher chose DeepSpeed; accelerate forgets that when it is given `cpu`.
_DEEPSPEED = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def start_accelerator(**settings: Any) -> Accelerator:
    """An `Accelerator` that counts its processes correctly even on a machine without a GPU."""
    if group := _process_group():
        settings |= {"cpu": not _DEEPSPEED, "kwargs_handlers": [InitProcessGroupKwargs(**group)]}
    return Accelerator(**settings)


def refuse_small_batches(accelerator: Accelerator) -> None:
    """Raise `ValueError` if the launcher's configuration adds up gradients of smaller batches, each with fewer negatives."""
    plugin = accelerator.state.deepspeed_plugin
    asked = plugin.deepspeed_config.get("gradient_accumulation_steps", 1) if plugin else 1
    if {str(asked), str(accelerator.gradient_accumulation_steps)} - {"1", "auto"}:
        raise ValueError(
            "gradient accumulation over smaller batches is another objective: each sees fewer texts and images. Set"
            " gradient_accumulation_steps to 1 in the launcher's configuration and give --chunk, which holds the"
            " activations of so many images at once and has the gradient of the whole batch"
        )


def configure_deepspeed(accelerator: Accelerator, batch_size: int, clip_grad: float, mixed_precision: str) -> None:
    """Give DeepSpeed, if the launcher chose it, the run's batch size, gradient clipping and precision.

    bf16 is set up as autocast over float32 weights, as it is without DeepSpeed, so that checkpoints and the tower are float32.

    Raises:
        ValueError: for a configuration from which no run could be resumed: weights in parts (ZeRO-3), or fp16.
    """
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        return
    if plugin.zero_stage == 3:
        raise ValueError("ZeRO-3 splits the weights, which a tower does not need; take recipes/configs/zero2.json")
    if mixed_precision == "fp16":
        raise ValueError("under DeepSpeed mixed_precision is `no` or `bf16`")
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": batch_size // accelerator.num_processes,
        "train_batch_size": batch_size,
        "gradient_clipping": clip_grad,
        "bf16": {"enabled": False},
        "torch_autocast": {"enabled": mixed_precision == "bf16", "dtype": "bfloat16"},
    }


def _process_group() -> dict[str, str]:
    """Arguments of the process group for several processes without a GPU; empty in all other cases.

    Without the backend gloo and `cpu`, accelerate 1.15 either counts a single process, or counts several and does not combine
    their gradients.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return {"backend": "gloo"} if several and not torch.cuda.is_available() else {}


def process_state() -> PartialState:
    """This process among those that the launcher started, and its device; counted correctly on a machine without a GPU too."""
    group = _process_group()
    return PartialState(cpu=bool(group) and not _DEEPSPEED, **group)


@contextmanager
def first_process() -> Iterator[bool]:
    """Yield whether this process is the first one; at the end of the block all processes wait for each other."""
    state = process_state()
    yield state.is_main_process
    state.wait_for_everyone()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        # Every process computes the same global loss, so the gradient of its own rows is already complete. DistributedDataParallel
        # will average it over all processes, although only this one has a gradient for these rows; the factor undoes that.
        size = dist.get_world_size()
        return gradients[0].chunk(size)[dist.get_rank()] * size


def gather_features(local: Tensor) -> Tensor:
    """Gather the rows of all processes, in rank order: [n, D] -> [n * processes, D]. Collective: all processes must call it.

    The gradient of a row goes back to the process that gave it. A single process gets its own tensor back.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return torch.as_tensor(_Gather.apply(local))


def gather_flags(local: Tensor) -> Tensor:
    """Gather booleans of all processes, in rank order: [n] -> [n * processes]. Collective: all processes must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    parts = [torch.empty_like(local, dtype=torch.uint8) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local.to(torch.uint8).contiguous())
    return torch.cat(parts).bool()


def gather_names(own: set[str]) -> set[str]:
    """The union of every process's names. Collective: all processes must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return own
    every: list[set[str]] = [set()] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return set().union(*every)


def gather_rows(own: np.ndarray) -> np.ndarray:
    """The rows of every process's array, in rank order: [n, D] -> [N, D]. Collective: all processes must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return own
    every = [own] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return np.concatenate(every)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to a device. A copy to a GPU is asynchronous, from pinned memory, so that the caller does not wait for it."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def own_share(rows: Tensor) -> Tensor:
    """The contiguous part of `rows` that this process works on; the last row is repeated until all parts have the same length."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    missing = -len(rows) % dist.get_world_size()
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]).chunk(dist.get_world_size())[dist.get_rank()]
