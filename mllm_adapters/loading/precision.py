"""The precision in which a model computes: the one asked for, or what its checkpoint and the device make sensible."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mgll.device import multiplies_in_bfloat16
from mgll.weights.dtypes import is_float
from mllm_adapters.checkpoints.tensors import Part, dtype_name
from mllm_adapters.settings import DTYPES

if TYPE_CHECKING:
    import torch

_HALVES = ("bfloat16", "float16")


def settle_dtype(
    asked: "str | torch.dtype", tensors: Mapping[str, Part], device: "str | torch.device", tuned: bool = False
) -> tuple[str, str]:
    """Choose the dtype of a model's weights.

    `auto` keeps float32, never giving away what a checkpoint has. Half precision becomes bfloat16 where the device is good at it,
    and float32 elsewhere, but for a float16 checkpoint on an older GPU: it is scored as it is, and tuned in float32, because
    gradients overflow in float16.

    Args:
        asked: `auto`, or one of the others of `settings.Dtype`.
        tensors: the checkpoint's tensors.
        device: where the model runs.
        tuned: whether it is trained.

    Returns:
        The dtype's name, and one sentence for the user where `auto` chose another than the checkpoint's, else an empty text.

    Raises:
        ValueError: if there is no such choice.
    """
    asked = str(asked).removeprefix("torch.")
    if asked not in DTYPES:
        raise ValueError(f"dtype is {asked}; give one of {', '.join(DTYPES)}")
    if asked != "auto":
        return asked, ""
    stored, kind = stored_dtype(tensors), str(device).partition(":")[0]
    if stored not in _HALVES:
        chosen, why = "float32", "the most that models are run in"
    elif multiplies_in_bfloat16(device):
        chosen, why = "bfloat16", f"which this {kind} is good at"
    elif stored == "float16" and kind != "cpu" and not tuned:
        chosen, why = "float16", ""
    else:
        chosen, why = "float32", f"because this {kind} is slow in bfloat16; --dtype bfloat16 takes half the memory"
    return chosen, "" if chosen == stored else f"the weights are {stored}, computed in {chosen}, {why}"


def stored_dtype(tensors: Mapping[str, Part]) -> str:
    """Name of the dtype of most of a checkpoint's bytes."""
    sizes: Counter[str] = Counter()
    for part in tensors.values():
        if is_float(part.dtype):
            sizes[dtype_name(part)] += part.nbytes
    return max(sizes, key=lambda name: sizes[name], default="float32")
