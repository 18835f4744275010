"""Several methods side by side: the number of each with every run, and every difference with the power to have seen one.

Intervals and p take seeds and patients as random (`benchmark.stats.seeds`).
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from benchmark.stats.bootstrap import Estimate
from benchmark.stats.seeds import difference_over_seeds, number_over_seeds
from mgll.evaluation.comparing import Side

#: What is said above such tables.
ABOUT = "Macro AUC in % (interval) [each run]; intervals and p take seeds and patients as random."

#: Reading -> arm -> the seeds of its runs, and their numbers.
Readings = Mapping[str, Mapping[str, tuple[Sequence[int], Side]]]


def arms_tables(readings: Readings, arms: Sequence[str], without_seeds: Collection[str] = ()) -> list[str]:
    """Lines of two tables in Markdown: the number of every arm for every reading, and the differences of all pairs of arms.

    Args:
        readings: the numbers.
        arms: their order.
        without_seeds: arms of which one run is all there is, because nothing of them is drawn.
    """
    lines = [f"| reading | {' | '.join(arms)} |", "|---" * (1 + len(arms)) + "|"]
    for reading, sides in readings.items():
        lines.append(f"| {reading} | {' | '.join(_number(sides[arm][1]) if arm in sides else '' for arm in arms)} |")
    lines += ["", "| difference | reading | points | p | power to see 2 points |", "|---|---|---|---|---|"]
    for pair in combinations(arms, 2):
        for reading, sides in readings.items():
            if sides.keys() >= set(pair):
                first, second = (sides[arm][1] for arm in pair)
                several = [len(sides[arm][1].values) for arm in pair if arm not in without_seeds]
                lines.append(f"| {pair[1]} - {pair[0]} | {reading} | {_difference(first, second, min(several))} |")
    return lines


def arms_rows(readings: Readings) -> list[str]:
    """Lines of a table in CSV with the columns `reading`, `arm`, `seed` and `macro AUC`."""
    return [
        f'"{reading}","{arm}",{seed},{value:.5f}'
        for reading, sides in readings.items()
        for arm, (seeds, side) in sides.items()
        for seed, value in zip(seeds, side.values, strict=True)
    ]


def _number(side: Side) -> str:
    """The mean over runs with its interval, and each run."""
    found = number_over_seeds(side.values, side.influence).estimate
    return f"{_percent(found)} [{', '.join(f'{100 * value:.1f}' for value in side.values)}]"


def _difference(first: Side, second: Side, runs: int) -> str:
    """Three cells: the second less the first, p, and the power with so many runs."""
    found = difference_over_seeds([first.values, second.values], [first.influence, second.influence])
    estimate = _percent(found.estimate, sign="+")
    if runs < 2:
        return f"{estimate} | one run: about these weights only | -"
    return f"{estimate} | {found.p:.3f} | {found.power(runs, 0.02):.0%}"


def _percent(found: Estimate, sign: str = "") -> str:
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
