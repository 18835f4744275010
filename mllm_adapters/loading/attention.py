"""Which attention a loaded model computes with; torch's fused one (`sdpa`) wherever transformers has it."""

from typing import Any


def told_attention(model: Any) -> str:
    """A sentence that names the parts of a model without fused attention, else an empty text.

    transformers chooses `sdpa` for every part of a model whose class has it; torch then takes the flash kernel where mask and dtype
    allow. Gemma 2 caps its logits, for which there is no fused form.
    """
    # here, because torch takes seconds to import
    from transformers import PreTrainedModel

    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    plain = sorted({type(part).__name__ for part in parts if part.config._attn_implementation == "eager"})
    return f"attention is not fused in {', '.join(plain)}, which takes more time and memory" if plain else ""
