"""In what numbers training computes, on which device: all that is set, and why. Nothing else of this project sets any of it.

On NVIDIA from Ampere on; elsewhere all is float32 unless a setting says otherwise:

- Pretraining, encoders: bfloat16 by autocast (`mixed_precision: auto`): half the memory, many times the speed of float32.
- Pretraining, objective: float32, because the logits of thousands of pairs are compared with each other.
- Weights, moments, checkpoints and tower: float32.
- Other float32 products in pretraining: in full, convolutions too, which torch leaves to TF32 by itself: `no` means float32.
- Fine-tuning, what is trained (LoRA, connector): float32 weights, multiplied in TF32 beside a model in half precision, which rounds
  more; in full if `dtype` is `float32`.
- The encoders are compiled only if the setting `compile` says so; what that brings depends on encoder and card.
- AdamW: its fused form, one pass over weights, gradients and moments (pretraining: on the CPU too).
- Attention: torch's `scaled_dot_product_attention`, transformers' own default, which takes the flash kernel where mask and dtype
  allow; `mllm_adapters.loading.attention` says which part of a host has none. No flash-attention package is needed. For few tokens
  in half precision on a CPU the plain products are faster (`attention_for`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mgll.device import multiplies_in_bfloat16, usual_device
from mgll.settings import PretrainSettings

#: Tokens up to which a CPU trains faster by plain products. Forward and backward pass of 48 heads of 82 tokens in bfloat16: 19 ms
#: fused, 17 plain on a core with AMX; of 50 tokens 15 and 7; of 128 tokens 24 and 26.
FEW_TOKENS = 112


def settle_precision(settings: PretrainSettings) -> PretrainSettings:
    """The settings with a `mixed_precision` that is no longer `auto`: `bf16` on a GPU that is good at it, else `no`."""
    if settings.mixed_precision != "auto":
        return settings
    device = torch.device(usual_device())
    good = device.type == "cuda" and multiplies_in_bfloat16(device)
    return replace(settings, mixed_precision="bf16" if good else "no")


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Multiply float32 matrices on NVIDIA GPUs in TF32 (10 bits of mantissa) or in full, convolutions too, until the block ends."""
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = tf32
    try:
        yield
    finally:
        for kind, allowed in zip(kinds, before, strict=True):
            kind.allow_tf32 = allowed


def attention_for(device: torch.device, half: bool, tokens: int) -> AbstractContextManager[None]:
    """Attention in which training is fastest; the block must hold forward and backward pass.

    torch's fused kernel for CPUs takes the backward pass of half precision in small blocks, so that few tokens cost like hundreds.

    Args:
        device: where the model is.
        half: whether attention computes in bfloat16 or float16.
        tokens: length of the sequences that attend to themselves.
    """
    plain = device.type == "cpu" and half and tokens <= FEW_TOKENS
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
