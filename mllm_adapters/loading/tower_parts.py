"""The vision tower of a host as something that is trained: its blocks, LoRA on them, and a file with what has changed.

`tower.safetensors` beside an adapter holds, under their names in the model and as whole float32 tensors, those weights of the tower
that a run trained in full. LoRA on the tower stands in the adapter.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mgll.formats import FormatError
from mgll.weights.finite import check_finite
from mgll.weights.reading import misfits
from mgll.weights.stored import read_stored
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

TOWER = "tower.safetensors"
#: What PEFT puts before every name of the model that it wraps.
PEFT_PREFIX = "base_model.model."


def tower_parameters(model: nn.Module, host: Host) -> dict[str, nn.Parameter]:
    """The parameters of the tower itself by name: without connector, bridge, or LoRA."""
    inside, parts = f".{host.tower}.", [f".{name}." for name in (*host.connector, "bridge")]
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if inside in f".{name}" and "lora_" not in name and not any(part in f".{name}" for part in parts)
    }


def tower_blocks(model: nn.Module, host: Host) -> list[str]:
    """Names of the tower's blocks, from the first to the last: the children of the longest chain of modules of one class.

    Raises:
        HostError: if the tower has no such chain.
    """
    inside = f".{host.tower}."
    chains = [
        [f"{name}.{child}" for child, _ in module.named_children()]
        for name, module in model.named_modules()
        if inside in f".{name}."
        and isinstance(module, nn.ModuleList | nn.Sequential)
        and len({type(child) for child in module.children()}) == 1
    ]
    if not chains:
        raise HostError(f"the tower of {host.title} has no chain of blocks, of which the last could be trained")
    return max(chains, key=len)


def tower_lora_pattern(model: nn.Module, host: Host) -> str:
    """A regex for the whole names of the linear layers in the tower's blocks.

    Raises:
        HostError: if they have none.
    """
    blocks = tower_blocks(model, host)
    layers = {
        name.removeprefix(f"{block}.")
        for block in blocks
        for name, module in model.get_submodule(block).named_modules(prefix=block)
        if type(module) is nn.Linear
    }
    if not layers:
        raise HostError(f"the blocks of the tower of {host.title} have no linear layers for LoRA")
    return rf"{re.escape(blocks[0].rpartition('.')[0])}\.\d+\.(?:{'|'.join(map(re.escape, sorted(layers)))})"


def choose_tower_parameters(
    model: nn.Module, host: Host, last: int | None, loss: Callable[[], Tensor]
) -> dict[str, nn.Parameter]:
    """Let the tower's weights learn, or those of its last blocks, as far as the loss depends on them at all.

    Hosts read a hidden state before the last one; the blocks behind it would be counted, and never learn.

    Args:
        model: the model with LoRA, its tower frozen.
        host: spec of the model's family.
        last: number of blocks; None trains the whole tower.
        loss: a forward pass on any example.

    Returns:
        The chosen weights by name, which require gradients and are float32 (`keep_in_float32` does that).
    """
    found = tower_parameters(model, host)
    for parameter in found.values():
        parameter.requires_grad_(True)
    loss().backward()
    used = {name: parameter for name, parameter in found.items() if parameter.grad is not None}
    model.zero_grad()
    if last is not None:
        blocks = [block for block in tower_blocks(model, host) if any(name.startswith(f"{block}.") for name in used)]
        used = {n: p for n, p in used.items() if any(n.startswith(f"{block}.") for block in blocks[-last:])}
    for name, parameter in found.items():
        parameter.requires_grad_(name in used)
    return used


def save_tower_parts(tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Write trained weights of the tower, by their names in the model that PEFT wraps."""
    stored = {name.removeprefix(PEFT_PREFIX): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(stored, directory / TOWER, {"format": "pt"})


def load_tower_parts(model: nn.Module, host: Host, directory: Path, expected: bool) -> None:
    """Put what a run trained of the tower into a freshly loaded base, in place.

    Args:
        model: the base, before LoRA is added.
        host: spec of the model's family.
        directory: folder of the run.
        expected: whether the settings of the run say that it trained weights of the tower.

    Raises:
        FormatError: if the file is missing or surplus, or holds other tensors than the tower has, or NaN or infinity.
    """
    path = directory / TOWER
    if path.is_file() != expected:
        what = (
            f"no {TOWER} in it, and the run trained the tower" if expected else f"{TOWER} of a run that froze the tower"
        )
        raise FormatError(directory, None, what)
    if not expected:
        return
    check_finite(read_stored(path)[0])
    found, own = load_file(path), tower_parameters(model, host)
    problems = misfits(found, {name: own[name] for name in found.keys() & own.keys()}, "the tower has")
    if problems or not found:
        raise FormatError(path, None, f"does not fit {host.title}: " + "; ".join(problems[:6] or ["it is empty"]))
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
