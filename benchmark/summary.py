"""From predictions to numbers: a pure function of the files, so that any report can be made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark import significance
from benchmark.predictions import Prediction, Run, differences
from benchmark.prompts import LETTERS
from benchmark.significance import DRAWS, Estimate, McNemar


class ComparisonError(ValueError):
    """Two runs that must not be compared; the message names what differs."""


@dataclass(frozen=True)
class Share:
    """Correct answers among n, with the Wilson 95 % interval."""

    n: int
    correct: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Correct over n."""
        return self.correct / self.n


@dataclass(frozen=True)
class Flips:
    """Questions that the second run answers rightly and the first did not (`fixed`), and the other way round (`broken`)."""

    fixed: int
    broken: int


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        name: what the model is called.
        groups: number of patients or eyes.
        overall: all cases, with the Wilson interval.
        clustered: the same accuracy with a bootstrap interval over groups.
        macro: mean over classes, bootstrap over groups.
        ten_class: mean over those of the paper's ten classes that occur (NaN where none does).
        ten_present: which these are.
        classes: class code -> share, the most frequent class first.
        sources: data set -> share, the largest first.
        letters: how often A, B, C and D were chosen.
        answers: how often A, B, C and D were true.
    """

    name: str
    groups: int
    overall: Share
    clustered: Estimate
    macro: Estimate
    ten_class: Estimate
    ten_present: tuple[str, ...]
    classes: Mapping[str, Share]
    sources: Mapping[str, Share]
    letters: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """After minus before on the same cases.

    Attributes:
        overall, macro, ten_class: differences as fractions, with bootstrap intervals over groups.
        mcnemar: exact test over cases.
        sign_flip_p: permutation test over groups; the one to trust where several cases share a group.
        flips: of all cases.
        classes, sources: flips by class code and by data set.
    """

    overall: Estimate
    macro: Estimate
    ten_class: Estimate
    mcnemar: McNemar
    sign_flip_p: float
    flips: Flips
    classes: Mapping[str, Flips]
    sources: Mapping[str, Flips]

    @property
    def settled(self) -> bool:
        """Whether interval and both tests agree that there is a difference."""
        excludes_zero = self.overall.low > 0 or self.overall.high < 0
        return excludes_zero and max(self.mcnemar.p, self.sign_flip_p) < 0.05


def summarise(run: Run, draws: int = DRAWS) -> RunSummary:
    """Numbers of one run, from its answers in stored order (rotation 0)."""
    rows = _stored_order(run)
    values, codes = _correct(rows), [row.code for row in rows]
    numbers = significance.summarise(values, codes, [row.group for row in rows], draws)
    return RunSummary(
        name=run.name,
        groups=numbers.groups,
        overall=Share(numbers.n, int(values.sum()), numbers.wilson.low, numbers.wilson.high),
        clustered=numbers.overall,
        macro=numbers.macro,
        ten_class=numbers.ten_class,
        ten_present=numbers.ten_class_present,
        classes=_shares(values, codes),
        sources=_shares(values, [row.source for row in rows]),
        letters=_histogram([row.chosen for row in rows]),
        answers=_histogram([row.answer for row in rows]),
    )


def compare(before: Run, after: Run, draws: int = DRAWS, any_prompt: bool = False) -> Change:
    """Difference of two runs over the same cases.

    Args:
        before: one run.
        after: the other.
        draws: of the bootstrap.
        any_prompt: compare even where the two hosts wrap the same question in different templates.

    Raises:
        ComparisonError: if cases, questions or prompts differ.
    """
    if found := differences(before, after, prompts=not any_prompt):
        raise ComparisonError(
            f"{before.name!r} (before) and {after.name!r} (after) can't be compared; they differ in " + "; ".join(found)
        )
    rows = _stored_order(after)
    by_case = {row.case: row for row in _stored_order(before)}
    first, second = _correct([by_case[row.case] for row in rows]), _correct(rows)
    codes = [row.code for row in rows]
    numbers = significance.compare(first, second, codes, [row.group for row in rows], draws)
    return Change(
        overall=numbers.overall,
        macro=numbers.macro,
        ten_class=numbers.ten_class,
        mcnemar=significance.mcnemar(first, second),
        sign_flip_p=numbers.sign_flip_p,
        flips=_flips(first, second),
        classes=_flips_by(first, second, codes),
        sources=_flips_by(first, second, [row.source for row in rows]),
    )


def _stored_order(run: Run) -> list[Prediction]:
    return [row for row in run.predictions if row.rotation == 0]


def _correct(rows: Sequence[Prediction]) -> np.ndarray:
    return np.array([row.correct for row in rows], dtype=int)


def _shares(values: np.ndarray, names: Sequence[str]) -> dict[str, Share]:
    shares = {}
    for code, n, accuracy, low, high in significance.per_class(values, names).itertuples(index=False, name=None):
        shares[str(code)] = Share(n, round(accuracy * n), low, high)
    return shares


def _histogram(positions: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(positions.count(position) for position in range(len(LETTERS)))


def _flips(first: np.ndarray, second: np.ndarray) -> Flips:
    return Flips(int((second > first).sum()), int((second < first).sum()))


def _flips_by(first: np.ndarray, second: np.ndarray, names: Sequence[str]) -> dict[str, Flips]:
    labels = np.asarray(names)
    return {name: _flips(first[labels == name], second[labels == name]) for name in dict.fromkeys(names)}
