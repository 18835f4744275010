"""Attention over prompt trees that leaves out what no token sees: endings do not see each other, and their product is not computed.

With a mask alone the work of attention would grow with the square of the length of all endings together. On long prompts this is
the larger part of what four orders of the options cost beyond their share of tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

NAME = "prompt_tree"


@contextmanager
def tree_attention(model: Any, limbs: Sequence[Sequence[range]]) -> Iterator[None]:
    """Let the decoder of a model attend limb by limb (common start, then each ending); without PyTorch's attention nothing changes.

    Args:
        model: a model that takes a mask [cases, 1, length, length], in which every limb sees the first limb of its case and itself.
        limbs: for each case the places of its limbs, one after the other. The first is the common start, which is causal.
    """
    # here, because transformers takes seconds to import
    from transformers import AttentionInterface

    config = model.get_decoder().config.get_text_config()
    if config._attn_implementation != "sdpa":
        yield
        return
    AttentionInterface.register(NAME, partial(_attend, limbs))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


def _attend(
    limbs: Sequence[Sequence[range]],
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of query [B, heads, length, width] to key and value [B, key heads, length, width].

    Returns:
        Tokens [B, length, heads, width], and None in the place of attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    options.pop("is_causal", None)
    rows = []
    for row, (start, *endings) in enumerate(limbs):
        q, k, v, mask = (tensor[row : row + 1] for tensor in (query, key, value, attention_mask))
        common = slice(start.start, start.stop)
        keys, values = k[:, :, common], v[:, :, common]
        found = [sdpa_attention_forward(module, q[:, :, common], keys, values, None, is_causal=True, **options)[0]]
        for ending in endings:
            own = slice(ending.start, ending.stop)
            keys, values = (torch.cat((tensor[:, :, common], tensor[:, :, own]), dim=2) for tensor in (k, v))
            seen = torch.cat((mask[:, :, own, common], mask[:, :, own, own]), dim=3)
            found.append(sdpa_attention_forward(module, q[:, :, own], keys, values, seen, **options)[0])
        padding = query.shape[2] - sum(part.shape[1] for part in found)
        rows.append(torch.nn.functional.pad(torch.cat(found, dim=1), (0, 0, 0, 0, 0, padding)))
    return torch.cat(rows), None
