"""How often two ways to read an answer, such as letter probabilities and the text of the reply, choose the same option."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mgll.vocabulary.questions import LETTERS


@dataclass(frozen=True)
class Agreement:
    """How often two views of the same answers choose the same option.

    Attributes:
        n: number of cases.
        equal: share of all cases in which both chose the same option; a case without choice in either view is not one.
        kappa: Cohen's kappa over the cases with a choice in both views; NaN where it is undefined, that is without such a case
            or where both always chose the same one option.
        compared: number of cases with a choice in both views.
        unparsed: number of cases without a choice in the first and in the second view.
    """

    n: int
    equal: float
    kappa: float
    compared: int
    unparsed: tuple[int, int]


def agreement(first: Sequence[int | None], second: Sequence[int | None]) -> Agreement:
    """Compare the choices of two views, case by case.

    Args:
        first: option chosen for each case, 0 to 3 in stored order, or None where the view found no answer.
        second: the same for the other view.

    Raises:
        ValueError: if there are no cases, the views are of unequal length, or a choice is none of the four options.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"two views of the same cases are needed, found {len(first)} and {len(second)} choices")
    options = range(len(LETTERS))
    if strange := {choice for choice in (*first, *second) if choice is not None and choice not in options}:
        raise ValueError(f"a choice is an option from 0 to {options[-1]} or None, found {sorted(strange)}")
    both = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    return Agreement(
        n=len(first),
        equal=sum(one == other for one, other in both) / len(first),
        kappa=_kappa(both),
        compared=len(both),
        unparsed=(first.count(None), second.count(None)),
    )


def _kappa(pairs: Sequence[tuple[int, int]]) -> float:
    # here, because scikit-learn takes a moment to import
    from sklearn.metrics import cohen_kappa_score

    if len({choice for pair in pairs for choice in pair}) < 2:
        return math.nan
    return float(cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs]))
