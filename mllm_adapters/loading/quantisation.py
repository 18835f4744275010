"""The language model in 4 or 8 bits (QLoRA): bitsandbytes does it, where it is installed and there is a GPU."""

import importlib.util
from typing import Any

from mllm_adapters.contract.host import Host


def refuse_quantisation(kind: str, device: str, split: str | None) -> None:
    """Raise `ValueError` where the weights cannot be quantised: without bitsandbytes or a GPU, or if they are split.

    Args:
        kind: `no`, `nf4` or `int8`.
        device: type of the device that trains.
        split: name of the form of parallelism that splits weights, or None.
    """
    if kind == "no":
        return
    if device != "cuda":
        raise ValueError(
            f"quantize {kind} needs a CUDA GPU for bitsandbytes, and this run has a {device}; set it to no"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"quantize {kind} needs bitsandbytes, which is not installed: pip install bitsandbytes")
    if split:
        raise ValueError(f"quantize {kind} and {split} exclude each other; take ZeRO-2 or several plain processes")


def quantisation(kind: str, host: Host) -> Any:
    """Settings for transformers' loader; tower, connector and output layer keep their precision. None for `no`."""
    if kind == "no":
        return None
    # here, because torch takes seconds to import
    import torch
    from transformers import BitsAndBytesConfig

    kept = [host.tower, *host.connector, "lm_head"]
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=kept,
    )
