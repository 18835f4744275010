"""Log-probabilities of continuations after many prompts, by the fastest way that the host allows and the memory has room for."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from torch import Tensor

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.prompting.fitting import as_many_as_fit
from mllm_adapters.prompting.rows import row_log_probs
from mllm_adapters.prompting.tree import Attention, tree_log_probs


def log_probs(
    loaded: LoadedHost,
    encoded: Sequence[EncodedPrompts],
    continuations: Sequence[Sequence[Sequence[Sequence[int]]]],
    attention: Attention = "limbs",
) -> list[list[list[Tensor]]]:
    """Log-probabilities of each continuation's tokens after each prompt, and of all tokens right after the prompt.

    Arguments and result are those of `row_log_probs`; prompts of a case share one pass unless `Host.whole_prompts` forbids it, and
    `attention` says how they attend then. Where the memory runs out, fewer prompts share it.

    Raises:
        MemoryError: if one prompt alone is too much for the memory.
    """
    way = row_log_probs if loaded.host.whole_prompts else partial(tree_log_probs, attention=attention)

    def some(prompts: Sequence[tuple[int, int]]) -> list[list[Tensor]]:
        parts = [(case, [prompt for _, prompt in of_case]) for case, of_case in groupby(prompts, lambda pair: pair[0])]
        wanted = [[continuations[case][number] for number in numbers] for case, numbers in parts]
        found = way(loaded, [encoded[case].only(numbers) for case, numbers in parts], wanted)
        return [tensors for of_case in found for tensors in of_case]

    numbered = [(case, prompt) for case, prompts in enumerate(encoded) for prompt in range(len(prompts.ids))]
    found = iter(as_many_as_fit(loaded.model, "prompts", some, numbered))
    return [[next(found) for _ in case.ids] for case in encoded]
