"""How often does a comparison find a difference where there is none? Runs of one method are compared with one another.

    python recipes/compare_towers.py --config recipes/configs/null_fundus.yaml --manifest fundus.jsonl
    python recipes/null_study.py --out runs/null

The first command trains and scores one method under several seeds, and goes on where it was after a kill. The second takes every
two disjoint sets of its runs as "before" and "after", and counts how often each number of a report would be called different.
Research use only, not for diagnosis.
"""

import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmark.cases.case import read_cases
from benchmark.cases.floor import questions_of
from benchmark.predictions.answers import answers_of
from benchmark.predictions.file import read_run
from benchmark.stats.seeds import corrected, method_difference, method_number
from benchmark.stats.significance import mcnemar, sign_flip
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.files import write_text

#: Splits beyond so many are drawn at random instead of taken in turn.
MOST_SPLITS = 300


@dataclass(frozen=True)
class NullSettings:
    """A count of false findings.

    Attributes:
        out: folder of `compare_towers.py`, with `test.jsonl` and `seed-*/ARM-scores`; `null.md` is written there.
        arm: whose runs are compared.
        sides: numbers of runs a side.
    """

    out: str
    arm: str = "clip"
    sides: tuple[int, ...] = (2, 3, 4)


@ends_in_one_line
def main() -> None:
    """Parse the settings, count, print and write the table."""
    settings = parse_settings(NullSettings, __doc__ or "")
    found = null_table(settings)
    print(found)
    write_text(Path(settings.out) / "null.md", found + "\n")


def null_table(settings: NullSettings) -> str:
    """Markdown: each run's numbers, then how often a difference was found between sets of runs of the same method.

    Raises:
        ValueError: if there are fewer than two finished runs.
    """
    folders = sorted(Path(settings.out).glob(f"seed-*/{settings.arm}-scores/predictions.jsonl"))
    if len(folders) < 2:
        raise ValueError(f"{settings.out}: {len(folders)} finished runs of {settings.arm}, two are needed")
    cases = read_cases(Path(settings.out) / "test.jsonl")
    order = [case.id for case in cases]
    answers = [answers_of(read_run(path), order) for path in folders]
    questions = questions_of(cases)
    picked = [run.shares(run.primary) for run in answers]
    totals = questions.totals()
    lines = [
        f"{len(folders)} runs of {settings.arm}, {len(cases):,} questions, {len(set(questions.groups)):,} patients or eyes",
        "",
        "| number | each run, % | standard deviation, points |",
        "|---|---|---:|",
    ]
    for number in totals:
        found = method_number(number, questions, picked)
        each = ", ".join(f"{100 * value:.1f}" for value in found.by_run)
        lines.append(f"| {number.name} | {each} | {100 * found.between_runs:.1f} |")
    lines += ["", "| runs a side | splits | test | found different, % |", "|---:|---:|---|---:|"]
    for side in settings.sides:
        splits = _splits(len(picked), side)
        if not splits:
            continue
        rejected: dict[str, list[bool]] = {}
        for first, second in splits:
            before, after = ([picked[index] for index in part] for part in (first, second))
            for number in totals:
                p = method_difference(number, questions, before, after).p
                rejected.setdefault(number.name, []).append(p < 0.05)
            by_class = [
                method_difference(questions.informedness_of(code), questions, before, after).p
                for code in questions.codes
            ]
            rejected.setdefault("any class (Holm)", []).append(bool(np.nanmin(corrected(by_class)) < 0.05))
        lines += [
            f"| {side} | {len(splits)} | {name} | {100 * np.mean(found):.1f} |" for name, found in rejected.items()
        ]
    pairs = list(combinations(range(len(picked)), 2))
    right = [np.floor(run.correct(run.primary)) for run in answers]
    exact = [mcnemar(right[a], right[b]).p < 0.05 for a, b in pairs]
    clustered = [sign_flip(right[b] - right[a], questions.groups, draws=2000) < 0.05 for a, b in pairs]
    lines += [
        f"| 1 | {len(pairs)} | overall, exact McNemar (weights only) | {100 * np.mean(exact):.1f} |",
        f"| 1 | {len(pairs)} | overall, sign flip (weights only) | {100 * np.mean(clustered):.1f} |",
    ]
    return "\n".join(lines)


def _splits(runs: int, side: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of disjoint sets of `side` runs, each pair once; some at random where there are too many."""
    found = [
        (first, second)
        for first in combinations(range(runs), side)
        for second in combinations([run for run in range(runs) if run not in first], side)
        if first[0] < second[0]
    ]
    if len(found) <= MOST_SPLITS:
        return found
    chosen = np.random.default_rng(0).choice(len(found), MOST_SPLITS, replace=False)
    return [found[index] for index in sorted(chosen)]


if __name__ == "__main__":
    sys.exit(main())
