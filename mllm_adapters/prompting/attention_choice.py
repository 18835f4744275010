"""Which attention over prompt trees is faster on this device: measured, because it depends on device, model and number of orders.

Limb by limb nothing is computed that is hidden, in some six small steps a limb and layer. Their starting costs a processor core
next to nothing and a graphics card more than the arithmetic that they save, where endings are short and many.
"""

import time
from collections.abc import Sequence
from typing import get_args

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.prompting.scoring import log_probs
from mllm_adapters.prompting.tree import Attention


def seconds_by_attention(
    loaded: LoadedHost, encoded: Sequence[EncodedPrompts], rounds: int = 3
) -> dict[Attention, float]:
    """Seconds that the answer slots of some cases take by each attention, the best of `rounds` after one to warm up, in turn."""
    wanted: list[list[list[list[int]]]] = [[[] for _ in case.ids] for case in encoded]
    ways: tuple[Attention, ...] = get_args(Attention)
    taken: dict[Attention, list[float]] = {way: [] for way in ways}
    for _ in range(1 + rounds):
        for way in ways:
            started = time.perf_counter()
            log_probs(loaded, encoded, wanted, way)  # its result is on the CPU, so nothing is still running
            taken[way].append(time.perf_counter() - started)
    return {way: min(seconds[1:]) for way, seconds in taken.items()}
