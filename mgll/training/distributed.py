"""Training in several processes: each sees the features of all, and gradients equal those of one process with the global batch."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, InitProcessGroupKwargs
from torch import Tensor, nn

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")
#: Whether the launcher chose DeepSpeed; accelerate forgets that when it is given `cpu`.
_DEEPSPEED = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
#: Whether the launcher chose FSDP, which accelerate ignores without a GPU.
_FSDP = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def start_accelerator(handlers: Sequence[Any] = (), **settings: Any) -> Accelerator:
    """An `Accelerator` that counts its processes correctly even without a GPU, and splits no weights before they are loaded.

    Args:
        handlers: further `kwargs_handlers` of accelerate.
        settings: arguments of `Accelerator`.
    """
    # transformers would load a part of a model only, and no check of a checkpoint could look at the rest
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    os.environ["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = "false"
    if group := _process_group():
        settings["cpu"] = not _DEEPSPEED
        handlers = [*handlers, InitProcessGroupKwargs(**group)]
    accelerator = Accelerator(kwargs_handlers=list(handlers), **settings)
    if accelerator.distributed_type == DistributedType.MULTI_CPU and _FSDP:
        plugin = FullyShardedDataParallelPlugin()
        if accelerator.mixed_precision != "no":
            plugin.set_mixed_precision(accelerator.mixed_precision)
        accelerator.state.fsdp_plugin, accelerator.state.distributed_type = plugin, DistributedType.FSDP
    if _DEEPSPEED:
        from transformers.integrations import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()  # under ZeRO-3 transformers would load a part of a model whatever the flag above says
    return accelerator


def splits_weights(accelerator: Accelerator) -> str | None:
    """The name of the launcher's form of parallelism if it splits the weights themselves between the processes, else None."""
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        return "ZeRO-3"
    return "FSDP" if accelerator.distributed_type == DistributedType.FSDP else None


def refuse_split_weights(accelerator: Accelerator) -> None:
    """Raise `ValueError` if the launcher chose ZeRO-3 or FSDP."""
    if name := splits_weights(accelerator):
        raise ValueError(
            f"{name} splits the weights, which a tower does not need; take recipes/configs/zero2.json, or several"
            " processes without DeepSpeed"
        )


def settle_accumulation(accelerator: Accelerator, asked: int | None) -> int:
    """The number of smaller batches of which each step adds up the gradients: what is asked for, or what the launcher says.

    Raises:
        ValueError: if both say something, and not the same, or it is no number above 0.
    """
    plugin = accelerator.state.deepspeed_plugin
    by_file = plugin.deepspeed_config.get("gradient_accumulation_steps", 1) if plugin else 1
    said = {str(number) for number in (by_file, accelerator.gradient_accumulation_steps)} - {"1", "auto"}
    said |= {str(asked)} if asked is not None else set()
    if len(said) > 1 or not all(number.isdigit() and int(number) for number in said):
        raise ValueError(
            f"gradient_accumulation_steps is {' here and '.join(sorted(said))} there; say it once, in the launcher's configuration"
            " or as --gradient-accumulation-steps, as a number from 1 on"
        )
    accelerator.gradient_accumulation_steps = number = int(next(iter(said), "1"))
    return number


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


def configure_deepspeed(
    accelerator: Accelerator, batch_size: int, clip_grad: float, mixed_precision: str, accumulation: int = 1
) -> None:
    """Give DeepSpeed, if the launcher chose it, the run's batch size, gradient clipping, accumulation and precision.

    bf16 is set up as autocast over float32 weights, as it is without DeepSpeed, so that checkpoints and the tower are float32.

    Raises:
        ValueError: for a configuration from which no run could be resumed: fp16.
    """
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        return
    if mixed_precision == "fp16":
        raise ValueError("under DeepSpeed mixed_precision is `no` or `bf16`")
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": batch_size // accelerator.num_processes // accumulation,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": batch_size,
        "gradient_clipping": clip_grad,
        "bf16": {"enabled": False},
        "torch_autocast": {"enabled": mixed_precision == "bf16", "dtype": "bfloat16"},
    }


def configure_fsdp(accelerator: Accelerator, model: nn.Module) -> None:
    """Split the model layer by layer if the launcher chose FSDP and names no classes of layers itself.

    Otherwise all layers would be gathered at once, or accelerate would look for layers that transformers knows of and this model
    does not have.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.transformer_cls_names_to_wrap:
        return
    # here, because FSDP takes a moment to import
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    known = set(getattr(model, "_no_split_modules", None) or ())
    plugin.transformer_cls_names_to_wrap = sorted(known & {type(module).__name__ for module in model.modules()})
    plugin.auto_wrap_policy = transformer_auto_wrap_policy


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


def gather_entries(own: Mapping[KeyT, ValueT]) -> dict[KeyT, ValueT]:
    """Every process's entries. Collective: all processes must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return dict(own)
    every: list[Mapping[KeyT, ValueT]] = [{}] * dist.get_world_size()
    dist.all_gather_object(every, dict(own))
    return {key: value for entries in every for key, value in entries.items()}


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


def share_of(rows: Tensor, process: int, processes: int) -> Tensor:
    """The contiguous part of `rows` that one process works on; the last row is repeated until all parts have the same length."""
    if processes == 1:
        return rows
    missing = -len(rows) % processes
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]).chunk(processes)[process]
