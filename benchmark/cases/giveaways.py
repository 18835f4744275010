"""Options that give the answer away: classes that are nearly always right where they are offered, whatever the image shows."""

from collections import Counter
from collections.abc import Sequence

from benchmark.cases.case import Case

#: A class is warned of where it is right in so large a share of the times it is offered, and is offered so often.
SHARE, OFFERS = 0.75, 5


def right_when_offered(cases: Sequence[Case]) -> dict[str, tuple[int, int]]:
    """Class code -> how often it is the answer, and how often it stands among the options."""
    right = Counter(case.code for case in cases)
    offered = Counter(code for case in cases for code in case.option_codes)
    return {code: (right[code], offered[code]) for code in offered}


def giveaway_warning(cases: Sequence[Case]) -> str:
    """One line that names each class that gives the answer away, with its counts; empty where none does."""
    found = {
        code: counts
        for code, counts in right_when_offered(cases).items()
        if counts[1] >= OFFERS and counts[0] >= SHARE * counts[1]
    }
    if not found:
        return ""
    ordered = sorted(found.items(), key=lambda item: -item[1][1])
    names = ", ".join(f"{code} ({right} of {offered})" for code, (right, offered) in ordered)
    return (
        f"warning: the options give the answer away: right at least {SHARE:.0%} of the times offered: {names}. Who picks these"
        " wherever they are offered need not see the image"
    )
