"""The prior-only floor of paper options in expectation: from class counts alone, without drawing a question."""

from collections import Counter
from collections.abc import Mapping
from math import comb

from benchmark.floor import Floor
from benchmark.significance import TEN_CLASSES


def expected_floor(counts: Mapping[str, int], names: int) -> Floor:
    """Exact expectation of the class-frequency guesser where three distractors are drawn uniformly without replacement.

    The guesser picks the option whose class has the most cases; k equal ones count 1/k. No question is drawn.

    Args:
        counts: class code -> number of cases, of every class that is ever the answer.
        names: how many names there are to draw distractors from, the classes' own among them; the others are never the answer.

    Raises:
        ValueError: for fewer names than classes, or fewer than four.
    """
    if not counts or names < max(len(counts), 4):
        raise ValueError(
            f"{len(counts)} classes and {names} names; needs a class, no more classes than names, four names"
        )
    frequency = Counter(counts.values()) + Counter({0: names - len(counts)})
    by_class = {code: _chance_to_win(cases, frequency) for code, cases in counts.items()}
    negated = Counter({-cases: times for cases, times in frequency.items()})
    rarest = [_chance_to_win(-cases, negated) for cases in counts.values()]
    ten = [by_class[code] for code in TEN_CLASSES if code in by_class]
    return Floor(
        overall=sum(by_class[code] * cases for code, cases in counts.items()) / sum(counts.values()),
        macro=sum(by_class.values()) / len(by_class),
        ten_class=sum(ten) / len(ten) if ten else float("nan"),
        rarest_macro=sum(rarest) / len(rarest),
        by_class=by_class,
        frequencies_of=f"the class counts, expected over distractors from {names} names",
    )


def _chance_to_win(own: int, frequency: Mapping[int, int]) -> float:
    """Chance that three names drawn from all others are rarer than `own`, those as frequent sharing with it."""
    rarer = sum(times for cases, times in frequency.items() if cases < own)
    equal, others = frequency[own] - 1, sum(frequency.values()) - 1
    return sum(comb(equal, k) * comb(rarer, 3 - k) / (k + 1) for k in range(4)) / comb(others, 3)
