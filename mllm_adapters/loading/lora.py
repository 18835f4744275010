"""Trained parts of a fine-tuned model: LoRA on the language model, where asked for also on the tower, and the connector in full."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mgll.formats import FormatError
from mgll.weights.finite import check_finite
from mgll.weights.model_folder import read_json
from mgll.weights.reading import misfits
from mgll.weights.stored import read_stored
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError
from mllm_adapters.loading.tower_parts import load_tower_parts, save_tower_parts, tower_lora_pattern
from mllm_adapters.settings import FinetuneSettings

#: PEFT's own word for an adapter that holds only `modules_to_save`.
NO_LORA = "dummy-target-modules"
#: Entries of an adapter's configuration that do not decide what it computes.
_ASIDE = {"base_model_name_or_path", "inference_mode", "peft_version", "auto_mapping", "revision", "task_type"}


def add_lora(model: nn.Module, host: Host, settings: FinetuneSettings) -> PeftModel:
    """Freeze everything, then add LoRA to the language model's layers and a trainable copy of the connector.

    Both are float32, whatever the precision of the model.
    Layers are chosen by a regex anchored on the language model: lists of suffixes (`q_proj`, ...) also hit a CLIP tower.

    Args:
        model: the loaded host or graft.
        host: spec of the model's family.
        settings: LoRA's rank, scale, dropout, kind and layers, and whether the tower gets it too.

    Raises:
        HostError: if the regex matches nothing, or a module of the tower or the connector, or if the model lacks the connector.
    """
    peft_model = get_peft_model(model, _config(model, host, settings))
    _check_trainable(peft_model, host, settings.tower == "lora")
    _keep_connector_in_float32(peft_model)
    return peft_model


def _keep_connector_in_float32(model: PeftModel) -> None:
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            keep_in_float32(module.modules_to_save[module.active_adapters[0]])


def keep_in_float32(module: nn.Module) -> None:
    """Run a part of a model in half precision in float32, as PEFT does with LoRA's own weights: in training and ever after.

    In bfloat16 a step smaller than 1/256 of a weight would be lost. What goes into the part and comes out keeps its precision.
    """
    if all(parameter.dtype == torch.float32 for parameter in module.parameters()):
        return
    module.float()
    arriving: list[torch.dtype] = []

    def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        tensors = [leaf for leaf in tree_leaves((inputs, named)) if _is_floating(leaf)]
        arriving.append(tensors[0].dtype if tensors else torch.float32)
        return tree_map(lambda leaf: leaf.float() if _is_floating(leaf) else leaf, (inputs, named))

    def leave(_: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        dtype = arriving.pop()
        return tree_map(lambda leaf: leaf.to(dtype) if _is_floating(leaf) else leaf, output)

    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(leave)


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _config(model: nn.Module, host: Host, settings: FinetuneSettings) -> LoraConfig:
    pattern = settings.lora_targets or host.lora_targets
    if settings.rank:
        _check_targets(model, host, pattern)
    if settings.tower == "lora":
        pattern = f"(?:{pattern})|(?:{tower_lora_pattern(model, host)})"
    return LoraConfig(
        r=settings.rank or 8,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=pattern if settings.rank else NO_LORA,
        modules_to_save=list(_connector(model, host)),
    )


def connector_parameters(model: nn.Module, host: Host) -> dict[str, nn.Parameter]:
    """The trainable parameters of the connector by name, a warm graft's bridge among them."""
    parts = {f".{name}." for name in _connector(model, host)}
    return {n: p for n, p in model.named_parameters() if p.requires_grad and any(part in f".{n}" for part in parts)}


def _connector(model: nn.Module, host: Host) -> tuple[str, ...]:
    bridge = f"{host.tower.rpartition('.')[2]}.bridge"
    found = any(f".{bridge}." in f".{name}" for name, _ in model.named_parameters())
    return (*host.connector, bridge) if found else host.connector


def save_trained(model: PeftModel, tensors: Mapping[str, Tensor], directory: Path, base: str) -> None:
    """Write LoRA and connector as a PEFT adapter directory that names `base` as its model, and beside it what the tower learnt.

    Args:
        model: the model with LoRA; its own weights are not looked at, because they may be split between processes.
        tensors: whole trained weights by their names in the model.
        directory: the folder.
        base: path of the base, as the adapter's configuration names it.
    """
    model.peft_config["default"].base_model_name_or_path = base
    adapter = {name: tensor for name, tensor in tensors.items() if is_adapter(name)}
    buffers = {name: buffer for name, buffer in model.named_buffers() if is_adapter(name)}
    model.save_pretrained(os.fspath(directory), save_embedding_layers=False, state_dict={**buffers, **adapter})
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    if tower := {name: tensor for name, tensor in tensors.items() if not is_adapter(name)}:
        save_tower_parts(tower, directory)


def is_adapter(name: str) -> bool:
    """Whether a parameter stands in the PEFT adapter: LoRA and connector do, the tower's own weights do not."""
    return "lora_" in name or ".modules_to_save." in name


def start_from(model: PeftModel, host: Host, directory: Path) -> None:
    """Give the connector of a model the weights that an earlier stage trained, which wrote them to `directory`."""
    found = load_file(directory / "adapter_model.safetensors")  # with what is fixed in it, as Qwen-VL's positions
    own = {name.replace(".modules_to_save.default", ""): p for name, p in connector_parameters(model, host).items()}
    problems = misfits({name: found[name] for name in found.keys() & own.keys()}, own, "the connector has")
    if problems:
        raise FormatError(directory, None, "not the connector of this model: " + "; ".join(problems[:6]))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])


def load_trained(model: nn.Module, host: Host, directory: Path, settings: FinetuneSettings) -> None:
    """Put the LoRA layers and the connector of a directory into a freshly loaded base, in place.

    The layers are built of the run's settings; the adapter's own configuration, which other programs read, must say the same.

    Args:
        model: the base.
        host: spec of the model's family.
        directory: what `save_trained` wrote.
        settings: those of the run that wrote it.

    Raises:
        FormatError: if the adapter's configuration is not that of the run, or its tensors are not exactly those of this
            configuration, or hold NaN or infinity.
        HostError: if the run's regex does not stay in the language model.
    """
    if settings.tower in ("last", "full"):
        keep_in_float32(model.get_submodule(host.tower))
    load_tower_parts(model, host, directory, settings.tower in ("last", "full"))
    config = _config(model, host, settings)
    _compare(directory / "adapter_config.json", config)
    config.inference_mode = True
    config.base_model_name_or_path = getattr(model, "name_or_path", None)  # PEFT warns where these differ
    path = directory / "adapter_model.safetensors"
    if not path.is_file():
        raise FormatError(directory, None, f"no {path.name} in it")
    check_finite(read_stored(path)[0])
    peft_model = get_peft_model(model, config)
    _keep_connector_in_float32(peft_model)
    found = load_file(path)
    expected = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    problems = misfits(found, expected, "the model has")
    if problems:
        raise FormatError(path, None, f"does not fit {host.title}: " + "; ".join(problems[:6]))
    set_peft_model_state_dict(peft_model, found)


def _compare(path: Path, config: LoraConfig) -> None:
    """Raise `FormatError` where an adapter's configuration is not the one that the run made."""
    expected, found = json.loads(json.dumps(config.to_dict(), default=sorted)), read_json(path)
    unknown = found.keys() - expected.keys()
    differing = {key for key in found.keys() & expected.keys() if _plain(found[key]) != _plain(expected[key])} - _ASIDE
    differing |= {key for key in unknown - _ASIDE if found[key]}  # of another version of PEFT, and switched on
    if differing:
        said = "; ".join(
            f"{key} is {found[key]!r:.60}, the run's record says {expected.get(key)!r:.60}"
            for key in sorted(differing)[:4]
        )
        raise FormatError(path, None, f"not the adapter of this run: {said}")


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list) else value


def _check_targets(model: nn.Module, host: Host, pattern: str) -> None:
    forbidden = (host.tower, *host.connector)
    hits = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    wrong = [name for name in hits if any(part in name for part in forbidden)]
    if not hits:
        raise HostError(f"the LoRA regex {pattern!r} matches no module of {host.title}")
    if wrong:
        raise HostError(f"the LoRA regex {pattern!r} also matches outside the language model: {', '.join(wrong[:4])}")


def _check_trainable(model: PeftModel, host: Host, tower_too: bool) -> None:
    connector: dict[str, Any] = connector_parameters(model, host)
    tower = f".{host.tower}."
    for name, parameter in model.named_parameters():
        if (
            parameter.requires_grad
            and name not in connector
            and ("lora_" not in name or (tower in name and not tower_too))
        ):
            raise HostError(f"{name} would be trained, which is neither LoRA on the language model nor connector")
    if not connector:
        raise HostError(f"none of {host.connector} was found in the model, so the connector would not be trained")
