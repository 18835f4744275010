"""Checkpoints of a training run: safetensors and JSON, written atomically, no pickle.

Layout: `FOLDER/step-00000100/{model.safetensors, optimizer.safetensors, state.json}`; a run resumes from the newest.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mgll.files import atomic_path
from mgll.training.split_weights import fill_tensor, own_part, split_again, whole_tensor, whole_weights
from mgll.training.zero_optimizer import gather_moments, is_split, scatter_moments


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int = 2,
    write: bool = True,
) -> None:
    """Write the checkpoint of `step` and remove all but the newest `keep`.

    Only what training changes is stored, that is trained parameters and the statistics of batch norms; frozen weights are loaded
    again from their own files. All processes must call this function, because ZeRO and FSDP split the optimizer or even the
    weights; the files have the same form as those of a run in which nothing is split.

    Args:
        folder: folder of the run's checkpoints.
        step: number of finished steps.
        model: the model that is trained.
        optimizer: its AdamW, as the launcher's form of parallelism made it.
        state: further values for `state.json`; they must fit into JSON.
        keep: number of checkpoints that stay.
        write: whether this process writes the files; exactly one process does.
    """
    split_again(model)
    optimizer_tensors = gather_moments if is_split(optimizer) else _optimizer_tensors
    moments = optimizer_tensors(model, optimizer, write)
    stored = whole_weights(_changing(model), write)
    if not write:
        return
    with atomic_path(folder / f"step-{step:08d}") as temporary:
        temporary.mkdir()
        save_file(stored, temporary / "model.safetensors")
        save_file(moments, temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> Path | None:
    """Path of the newest complete checkpoint in a folder; None if there is none."""
    return max((path.parent for path in folder.glob("step-*/state.json")), default=None)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a checkpoint into model and optimizer, bit for bit, and return its state. All processes must call this function.

    Raises:
        ValueError: if the tensors of the checkpoint are not those of this model.
    """
    tensors = load_file(path / "model.safetensors")
    expected = _changing(model)
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())
        raise ValueError(f"{path}: not a checkpoint of this model; tensors that only one of them has: {odd[:6]}")
    for name, tensor in expected.items():
        fill_tensor(tensor, tensors[name])
    moments = load_file(path / "optimizer.safetensors")
    if is_split(optimizer):
        scatter_moments(model, optimizer, moments, tensors)
    else:
        _load_optimizer(model, optimizer, moments)
    return checkpoint_state(path)


def checkpoint_state(path: Path) -> dict[str, Any]:
    """What a checkpoint says beside its tensors: `step`, and the further values that it was saved with."""
    return dict(json.loads((path / "state.json").read_text(encoding="utf-8")))


def _changing(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            found |= {f"{name}.{key}": buffer for key, buffer in module.named_buffers()}
    return found


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, torch.Tensor]:
    """AdamW's moments and step counters as whole CPU tensors, by `parameter/moment`; empty unless `keep`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            whole = whole_tensor(torch.as_tensor(value), keep)
            if whole is not None:
                tensors[f"{names[id(parameter)]}/{key}"] = whole
    return tensors


def _load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, moment = key.rsplit("/", 1)
        parameter = parameters[name]
        if moment != "step":
            value = own_part(value, parameter)
        elif optimizer.defaults.get("fused"):  # otherwise the step counter lies on the CPU
            value = value.to(parameter.device)
        optimizer.state[parameter][moment] = value
