"""Log-probabilities of continuations after many prompts, by the fastest way that the host allows."""

from collections.abc import Sequence

from torch import Tensor

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.prompting.rows import row_log_probs
from mllm_adapters.prompting.tree import tree_log_probs


def log_probs(
    loaded: LoadedHost, encoded: Sequence[EncodedPrompts], continuations: Sequence[Sequence[Sequence[Sequence[int]]]]
) -> list[list[list[Tensor]]]:
    """Log-probabilities of each continuation's tokens after each prompt, and of all tokens right after the prompt.

    Arguments and result are those of `row_log_probs`; prompts of a case share one pass unless `Host.whole_prompts` forbids it.
    """
    way = row_log_probs if loaded.host.whole_prompts else tree_log_probs
    return way(loaded, encoded, continuations)
