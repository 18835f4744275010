"""The language model in 4 or 8 bits (QLoRA), by bitsandbytes: on a GPU of NVIDIA or Intel, or slowly on a CPU."""

import importlib.util
import re
from collections.abc import Iterable
from typing import Any

from mllm_adapters.contract.host import Host

#: Types of devices for which bitsandbytes' wheels have code.
_DEVICES = ("cuda", "xpu", "cpu")
#: The name of a block: up to the first number in it.
_BLOCK = re.compile(r".*?\.\d+\.")


def refuse_quantisation(kind: str, device: str, split: str | None = None) -> None:
    """Raise `ValueError` where the weights cannot be quantised: without bitsandbytes, on other devices, or if they are split.

    Args:
        kind: `no`, `nf4` or `int8`.
        device: type of the device on which the model runs.
        split: name of the form of parallelism that splits weights, or None.
    """
    if kind == "no":
        return
    if device not in _DEVICES:
        raise ValueError(f"quantize {kind}: bitsandbytes does not run on {device}; set it to no, or take {_DEVICES[0]}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"quantize {kind} needs bitsandbytes, which is not installed: pip install mgll-graft[qlora]")
    if split:
        raise ValueError(f"quantize {kind} and {split} exclude each other; take ZeRO-2 or several plain processes")


def quantisation(kind: str, host: Host, empty: Any, dtype: str) -> Any:
    """Settings for transformers' loader that quantise the blocks of the language model and nothing else. None for `no`.

    Args:
        kind: `no`, `nf4` or `int8`.
        host: the family.
        empty: the model without its weights, whose layers are looked at by name.
        dtype: in what quantised layers compute.
    """
    if kind == "no":
        return None
    # here, because torch takes seconds to import
    import torch
    from transformers import BitsAndBytesConfig

    linear = {name: module for name, module in empty.named_modules() if isinstance(module, torch.nn.Linear)}
    chosen = _in_blocks(host, linear)
    # by their whole names: of a part of a name transformers finds only the end
    kept = [name for name in linear if name not in chosen]
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=kept,
    )


def _in_blocks(host: Host, names: Iterable[str]) -> set[str]:
    """Of these modules those in the blocks that LoRA adapts, without what tower and connector have there."""
    names = list(names)
    blocks = {match[0] for name in names if re.fullmatch(host.lora_targets, name) and (match := _BLOCK.match(name))}
    apart = [f".{part}." for part in (host.tower, *host.connector)]
    own = [name for name in names if not any(part in f".{name}." for part in apart)]
    return {name for name in own if (match := _BLOCK.match(name)) and match[0] in blocks}


def keep_gradients(model: Any) -> None:
    """Let 4-bit layers on a CPU stay in the form that has gradients.

    On CPUs with AVX-512 bitsandbytes packs them anew, for speed, as soon as they are run in evaluation. Behind a validation,
    training would go on in this form, through which no gradient passes; and it takes whole blocks of 64 numbers only.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
