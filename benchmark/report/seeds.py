"""Several runs of the same cases that differ in a training seed: averaged per case, then compared.

Seeds share cases, so pooling their answers as if they were independent would make every interval too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.predictions.answers import answers_of
from benchmark.predictions.file import ComparisonError, Run, differences
from benchmark.stats import significance
from benchmark.stats.significance import Comparison, Summary


@dataclass(frozen=True)
class Averaged:
    """Accuracy of one model trained under several seeds.

    Attributes:
        name: what the report calls it.
        by_seed: overall accuracy under each seed.
        summary: of the means per case.
        values: share of the seeds under which each case was answered right [cases].
    """

    name: str
    by_seed: tuple[float, ...]
    summary: Summary
    values: np.ndarray


def average(name: str, runs: Sequence[Run], draws: int = significance.DRAWS) -> Averaged:
    """Average runs of the same cases.

    Raises:
        ComparisonError: if they are not over the same cases and questions.
    """
    for run in runs[1:]:
        if found := differences(runs[0], run, prompts=False):
            raise ComparisonError(f"runs of {name} differ in " + "; ".join(found))
    first = answers_of(runs[0])
    answered = [answers_of(run, first.cases) for run in runs]
    correct = np.array([answers.correct(answers.primary) for answers in answered], dtype=float)
    values = significance.average_seeds(correct)
    summary = significance.summarise(values, first.codes, first.groups, draws)
    return Averaged(name, tuple(float(row.mean()) for row in correct), summary, values)


def compare(before: Averaged, after: Averaged, cases: Run, draws: int = significance.DRAWS) -> Comparison:
    """Difference of two averages; `cases` is any of the runs, for classes and groups."""
    labels = answers_of(cases)
    return significance.compare(before.values, after.values, labels.codes, labels.groups, draws)


def table(averages: Sequence[Averaged]) -> str:
    """Markdown table: accuracy with its interval clustered by group, and each seed's own."""
    lines = ["| model | accuracy | 95 % interval | macro | each seed |", "|---|---|---|---|---|"]
    for entry in averages:
        overall, macro = entry.summary.overall, entry.summary.macro
        seeds = ", ".join(f"{value:.1%}" for value in entry.by_seed)
        lines.append(
            f"| {entry.name} | {overall.value:.1%} | {overall.low:.1%} to {overall.high:.1%} | {macro.value:.1%} | {seeds} |"
        )
    return "\n".join(lines)


def sentence(before: Averaged, after: Averaged, difference: Comparison) -> str:
    """One line: how much, with interval and p."""
    overall, p = difference.overall, difference.mcnemar.p if difference.mcnemar else difference.sign_flip_p
    test = "exact McNemar" if difference.mcnemar else "sign-flip test over groups"
    return (
        f"{after.name} minus {before.name}: {100 * overall.value:+.1f} points"
        f" ({100 * overall.low:+.1f} to {100 * overall.high:+.1f}), p = {p:.2g} ({test},"
        f" {before.summary.n} cases of {before.summary.groups} groups, {len(before.by_seed)} seeds)"
    )
