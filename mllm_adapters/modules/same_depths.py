"""Which states of a donor lie as deep as those that a host reads of its own tower, for hosts that read several."""

from collections.abc import Sequence

from mllm_adapters.contract.tower_spec import TowerSpec


def same_depths(spec: TowerSpec, states: Sequence[int], depth: int) -> list[int]:
    """The donor's states at the same fractions of what is read of it, each named by the number of blocks in front of it.

    Args:
        spec: how the donor is run; one that hands on a single state (a convolutional trunk, the pooled feature) has no others.
        states: the host's, named likewise.
        depth: number of blocks of the host's own tower.
    """
    if spec.tokens == "pooled" or spec.geometry.depth == 1:
        return []
    read = spec.layer if spec.layer > 0 else spec.geometry.depth + 1 + spec.layer
    return [max(1, round(state * read / depth)) for state in states]
