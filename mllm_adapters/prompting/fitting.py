"""As many prompts at once as the memory takes: where it runs out, a batch is halved instead of ending the run."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")

#: How a RuntimeError says that memory ran out; on graphics cards of most makers it is a `torch.OutOfMemoryError`.
_SAYS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")

#: For each model and kind of work how many items at once did fit, where it was not all of them.
_MOST: WeakKeyDictionary[torch.nn.Module, dict[str, int]] = WeakKeyDictionary()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the computer or of a card has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAYS)


def as_many_as_fit(
    model: torch.nn.Module, what: str, work: Callable[[Sequence[Item]], list[Found]], items: Sequence[Item]
) -> list[Found]:
    """What `work` returns for all items, a result an item; they are given to it in halves if they are too much for the memory.

    How many did fit is remembered for this model and this work, and said once on standard error.

    Args:
        model: whose forward pass takes the memory.
        what: what the items are, for the message.
        work: gives results that do not depend on which items it is given together, but for rounding.
        items: all of them.

    Raises:
        MemoryError: if a single item is too much.
    """
    found: list[Found] = []
    fit = _MOST.setdefault(model, {})
    while len(found) < len(items):
        some = items[len(found) :][: fit.get(what, len(items))]
        try:
            found += work(some)
            continue
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if len(some) == 1:
            raise MemoryError(
                f"one of the {what} alone is too much; take --dtype bfloat16, --quantize 4bit or a device with more memory"
            )
        fit[what] = len(some) // 2
        print(f"the memory is full at {len(some)} {what}; going on with {fit[what]} at a time", file=sys.stderr)
        gc.collect()  # here and not above, where the error still holds what did not fit
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
    return found
