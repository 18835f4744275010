"""The orders in which four options are asked, the way back to the stored order, and what the answers to several orders say.

A model may like a letter rather than an option. Asked in 4 (or all 24) orders, the liking shows, and can be taken out:

- *stored order*: the first order alone, as most benchmarks ask;
- *averaged in option space*: the probabilities that an option has over all orders, at whatever letter it stood, averaged; every
  letter's liking then falls on every option alike. The primary answer where rotations were run;
- *all correct* (CircularEval): a case counts only where every order is answered rightly.

Options are numbered in stored order everywhere here; only `letter_preference` speaks of letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Permutation = tuple[int, int, int, int]
T = TypeVar("T")

_CYCLIC = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2))

#: `PERMUTATIONS[r][k]` is the stored index of the option that stands at letter k in rotation r. The first is the stored order,
#: the first four give every option every letter once, the others follow in lexicographic order.
PERMUTATIONS: tuple[Permutation, ...] = (
    *_CYCLIC,
    *((a, b, c, d) for a, b, c, d in permutations(range(4)) if (a, b, c, d) not in _CYCLIC),
)

#: Probabilities no further apart than this tie: sums of the same four in another order differ by rounding.
SAME = 1e-9


@dataclass(frozen=True)
class LetterPreference:
    """How often each letter was chosen over all cases and rotations.

    Attributes:
        counts: how often A, B, C and D were chosen.
        none: how often no option was named.
        entropy: of the shares, in bits; 2 where all letters are chosen alike, 0 where it is always the same one.
        chi_square: distance from equal shares (3 degrees of freedom).
        p: of that distance, as if all answers were independent. Over all 4 or 24 rotations a model that follows the option
            chooses every letter equally often by construction, so a small p means a liking for letters; as the rotations of a
            case are alike, take it as a guide. Over the stored order alone it also holds the positions of the true answers.
    """

    counts: tuple[int, int, int, int]
    none: int
    entropy: float
    chi_square: float
    p: float


def rotations(count: Literal[1, 4, 24]) -> tuple[Permutation, ...]:
    """The stored order, the four cyclic orders, or all 24. Only in these does every option take every letter equally often.

    Raises:
        ValueError: for another count.
    """
    if count not in (1, 4, 24):
        raise ValueError(f"{count} rotations; there can be 1, 4 or 24")
    return PERMUTATIONS[:count]


def as_asked(stored: Sequence[T], rotation: int) -> tuple[T, T, T, T]:
    """Four things in stored order, in the order of the letters."""
    a, b, c, d = (stored[index] for index in PERMUTATIONS[rotation])
    return a, b, c, d


def as_stored(asked: Sequence[T], rotation: int) -> tuple[T, T, T, T]:
    """Four things in the order of the letters, in stored order."""
    a, b, c, d = (asked[PERMUTATIONS[rotation].index(index)] for index in range(4))
    return a, b, c, d


def average(probabilities: ArrayLike) -> np.ndarray:
    """Arithmetic mean of an option's probability over the rotations.

    Args:
        probabilities: [cases, rotations, 4] of the options in stored order.

    Returns:
        [cases, 4].
    """
    values = np.asarray(probabilities, dtype=float)
    if values.ndim != 3 or values.shape[1] not in (1, 4, 24) or values.shape[2] != 4:
        raise ValueError(f"expected [cases, 1 or 4 or 24 rotations, 4 options], found shape {values.shape}")
    return np.asarray(values.mean(axis=1))


def expected_correct(probabilities: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """Whether the most probable option is the true one; a tie of k options with the true one among them counts 1/k.

    In a single order a tie is common too: logits in bfloat16 are coarse, and some hundredths of a model's answers have two letters
    with the same one. A model that always says the same letter ties all four options once its answers are averaged over the
    rotations. Taking the first of equals would then reward the answer's stored position; drawing one would make the result depend
    on a seed. Where no option has any probability (no reply could be read) the case counts as wrong.

    Args:
        probabilities: [cases, 4].
        answers: [cases] index of the true option.

    Returns:
        [cases] in 0..1.
    """
    values, true = np.asarray(probabilities, dtype=float), np.asarray(answers, dtype=int)
    best = values.max(axis=1, keepdims=True)
    tied = (values >= best - SAME) & (best > 0)
    return np.asarray(tied[np.arange(len(true)), true] / np.maximum(tied.sum(axis=1), 1))


def all_correct(chosen: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """CircularEval: 1 where a case is answered rightly in every rotation. Guessing gets 0.4 % over four.

    Args:
        chosen: [cases, rotations] stored index of the chosen option; -1 for none.
        answers: [cases] stored index of the true option.

    Returns:
        [cases] 0/1.
    """
    return np.asarray((_chosen(chosen) == np.asarray(answers, dtype=int)[:, None]).all(axis=1), dtype=float)


def consistency(chosen: ArrayLike) -> float:
    """Share of the cases where all rotations [cases, rotations] lead to the same option; -1 (none) is no option."""
    picked = _chosen(chosen)
    return float(((picked == picked[:, :1]).all(axis=1) & (picked[:, 0] >= 0)).mean())


def letter_preference(chosen: ArrayLike) -> LetterPreference:
    """How often each letter was chosen; `chosen` is [cases, rotations] in stored order, -1 for none."""
    # here, because scipy takes a moment to import
    from scipy.stats import chisquare, entropy

    picked = _chosen(chosen)
    counts = np.zeros(4, dtype=int)
    for rotation in range(picked.shape[1]):
        named = picked[:, rotation][picked[:, rotation] >= 0]
        letter_of = np.argsort(PERMUTATIONS[rotation])  # stored index -> letter
        counts += np.bincount(letter_of[named], minlength=4)
    a, b, c, d = (int(count) for count in counts)
    none = int((picked < 0).sum())
    if not counts.any():
        return LetterPreference((0, 0, 0, 0), none, float("nan"), float("nan"), float("nan"))
    test = chisquare(counts)
    return LetterPreference(
        (a, b, c, d), none, float(entropy(counts, base=2)), float(test.statistic), float(test.pvalue)
    )


def _chosen(chosen: ArrayLike) -> np.ndarray:
    picked = np.asarray(chosen, dtype=int)
    if picked.ndim != 2 or not len(picked) or picked.shape[1] not in (1, 4, 24):
        raise ValueError(f"expected [cases, 1 or 4 or 24 rotations], found shape {picked.shape}")
    if picked.min() < -1 or picked.max() > 3:
        raise ValueError(f"options are numbered 0 to 3, and -1 is none; found {picked.min()} to {picked.max()}")
    return picked
