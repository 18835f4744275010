"""What fine-tuning trained, put into the model's own weights: LoRA added up in float32, the connector in the old one's place."""

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from torch import nn

from mgll.weights.model_folder import read_json
from mllm_adapters.contract.host import Host

ADAPTER = "adapter_model.safetensors"


def merge(model: nn.Module, host: Host, keep_lora: bool) -> list[str]:
    """Turn a model with LoRA layers and a trained connector into one without either, in place.

    Args:
        model: the model inside PEFT's wrapper, as `load` gives it.
        host: its family.
        keep_lora: leave the language model's LoRA out, for an adapter beside it; that of the tower is merged in any case.

    Returns:
        Names of the layers whose LoRA was left out.
    """
    apart = []
    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            dtype = next(module.original_module.parameters()).dtype
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]].to(dtype))
        elif isinstance(module, LoraLayer):
            layer: Any = module.get_base_layer()
            if keep_lora and f".{host.tower}." not in f".{name}":
                apart.append(name)
            else:
                dtype = layer.weight.dtype
                layer.float()  # in half precision, what is smaller than 1/256 of a weight would be lost before it is rounded once
                module.merge()
                layer.to(dtype)
            model.set_submodule(name, layer)
    vars(model).pop("peft_config", None)
    return apart


def write_adapter(run: Path, layers: list[str], model: nn.Module, out: Path) -> LoraConfig:
    """Write the language model's LoRA of a fine-tuned directory as an adapter that PEFT, vLLM and SGLang read.

    It holds LoRA alone and names its layers by their endings where these are found nowhere else in the model. Servers scale by
    alpha / rank only, so what rank-stabilised LoRA scales by is put into the weights.

    Args:
        run: the fine-tuned directory.
        layers: names of the adapted layers.
        model: the base, without LoRA.
        out: the folder to write.
    """
    settings = read_json(run / "adapter_config.json")
    found = {name: tensor for name, tensor in load_file(run / ADAPTER).items() if _layer(name) in layers}
    if settings.get("use_rslora"):
        factor = math.sqrt(settings["r"])
        found = {name: tensor * factor if "lora_B" in name else tensor for name, tensor in found.items()}
    endings = {name.rpartition(".")[2] for name in layers}
    elsewhere = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in endings} - set(layers)
    config = LoraConfig(
        r=settings["r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        use_dora=settings.get("use_dora", False),
        target_modules=sorted(layers if elsewhere else endings),
        inference_mode=True,
        base_model_name_or_path="../base",
    )
    out.mkdir(parents=True)
    config.save_pretrained(str(out))
    path = out / "adapter_config.json"
    written = read_json(path)
    written["target_modules"].sort()  # PEFT keeps a set of them
    if float(written["lora_alpha"]).is_integer():
        written["lora_alpha"] = int(written["lora_alpha"])  # vLLM's is one
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out / ADAPTER, {"format": "pt"})
    return config


def _layer(name: str) -> str:
    """The adapted layer to which a tensor of an adapter's file belongs; empty for tensors that are no LoRA."""
    match = re.fullmatch(r"base_model\.model\.(.+)\.lora_\w+(\.weight)?", name)
    return match[1] if match else ""


def dtypes_of(model: nn.Module) -> dict[str, int]:
    """Number of parameters by the name of their dtype."""
    found: dict[str, int] = {}
    for parameter in model.parameters():
        name = str(parameter.dtype).removeprefix("torch.")
        found[name] = found.get(name, 0) + parameter.numel()
    return found


def is_finite(model: nn.Module) -> bool:
    """Whether every weight is a number: a sum that leaves the range of half precision is not."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.is_floating_point())
