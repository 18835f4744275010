"""Trained parts of a fine-tuned model: LoRA on the language model alone, and the connector in full; never the tower."""

import os
import re
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from mgll.formats import FormatError
from mgll.weights.reading import misfits
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

#: PEFT's own word for an adapter that holds only `modules_to_save`.
NO_LORA = "dummy-target-modules"


def add_lora(
    model: nn.Module, host: Host, rank: int, alpha: float, dropout: float, targets: str | None = None
) -> PeftModel:
    """Freeze everything, then add LoRA to the language model's layers and a trainable copy of the connector.

    Layers are chosen by a regex anchored on the language model: lists of suffixes (`q_proj`, ...) also hit a CLIP tower.

    Args:
        model: the loaded host or graft.
        host: spec of the model's family.
        rank: rank of LoRA; 0 trains the connector alone.
        alpha: LoRA's scale is alpha / rank.
        dropout: dropout rate on LoRA's input.
        targets: regex, matched against whole module names, in place of `Host.lora_targets`.

    Raises:
        HostError: if the regex matches nothing, or a module of the tower or the connector, or if the model lacks the connector.
    """
    pattern = targets or host.lora_targets
    if rank:
        _check_targets(model, host, pattern)
    config = LoraConfig(
        r=rank or 8,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=pattern if rank else NO_LORA,
        modules_to_save=list(_connector(model, host)),
    )
    peft_model = get_peft_model(model, config)
    _check_trainable(peft_model, host)
    return peft_model


def connector_parameters(model: nn.Module, host: Host) -> dict[str, nn.Parameter]:
    """The trainable parameters of the connector by name, a warm graft's bridge among them."""
    parts = {f".{name}." for name in _connector(model, host)}
    return {n: p for n, p in model.named_parameters() if p.requires_grad and any(part in f".{n}" for part in parts)}


def _connector(model: nn.Module, host: Host) -> tuple[str, ...]:
    bridge = f"{host.tower.rpartition('.')[2]}.bridge"
    found = any(f".{bridge}." in f".{name}" for name, _ in model.named_parameters())
    return (*host.connector, bridge) if found else host.connector


def save_trained(model: PeftModel, directory: Path, base: str) -> None:
    """Write LoRA and connector as a PEFT adapter directory that names `base` as its model."""
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(os.fspath(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def load_trained(model: nn.Module, host: Host, directory: Path) -> None:
    """Put the LoRA layers and the connector of a directory into a freshly loaded base, in place.

    Raises:
        FormatError: if the adapter's tensors are not exactly those that its configuration describes.
    """
    config = PeftConfig.from_pretrained(os.fspath(directory))
    config.inference_mode = True
    config.base_model_name_or_path = getattr(model, "name_or_path", None)  # PEFT warns where these differ
    peft_model = get_peft_model(model, config)
    path = directory / "adapter_model.safetensors"
    if not path.is_file():
        raise FormatError(directory, None, f"no {path.name} in it")
    found = load_file(path)
    expected = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    problems = misfits(found, expected, "the model has")
    if problems:
        raise FormatError(path, None, f"does not fit {host.title}: " + "; ".join(problems[:6]))
    set_peft_model_state_dict(peft_model, found)


def _check_targets(model: nn.Module, host: Host, pattern: str) -> None:
    forbidden = (host.tower, *host.connector)
    hits = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    wrong = [name for name in hits if any(part in name for part in forbidden)]
    if not hits:
        raise HostError(f"the LoRA regex {pattern!r} matches no module of {host.title}")
    if wrong:
        raise HostError(f"the LoRA regex {pattern!r} also matches outside the language model: {', '.join(wrong[:4])}")


def _check_trainable(model: PeftModel, host: Host) -> None:
    connector: dict[str, Any] = connector_parameters(model, host)
    tower = f".{host.tower}."
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in connector and ("lora_" not in name or tower in name):
            raise HostError(f"{name} would be trained, which is neither LoRA on the language model nor connector")
    if not connector:
        raise HostError(f"none of {host.connector} was found in the model, so the connector would not be trained")
