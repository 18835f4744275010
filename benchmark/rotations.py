"""The orders in which four options are asked, and the way back to the stored order."""

from collections.abc import Sequence
from itertools import permutations
from typing import TypeVar

Permutation = tuple[int, int, int, int]
T = TypeVar("T")

_CYCLIC = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2))

#: `PERMUTATIONS[r][k]` is the stored index of the option that stands at letter k in rotation r. The first is the stored order,
#: the first four give every option every letter once.
PERMUTATIONS: tuple[Permutation, ...] = (
    *_CYCLIC,
    *((a, b, c, d) for a, b, c, d in permutations(range(4)) if (a, b, c, d) not in _CYCLIC),
)


def as_asked(stored: Sequence[T], rotation: int) -> tuple[T, T, T, T]:
    """Four things in stored order, in the order of the letters."""
    a, b, c, d = (stored[index] for index in PERMUTATIONS[rotation])
    return a, b, c, d


def as_stored(asked: Sequence[T], rotation: int) -> tuple[T, T, T, T]:
    """Four things in the order of the letters, in stored order."""
    a, b, c, d = (asked[PERMUTATIONS[rotation].index(index)] for index in range(4))
    return a, b, c, d
