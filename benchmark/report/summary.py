"""From predictions to numbers: a pure function of the files, so that any report can be made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmark.predictions.answers import NONE, Answers, Reading
from benchmark.predictions.file import ComparisonError, Run, differences
from benchmark.scorers.scorer import View
from benchmark.stats import significance
from benchmark.stats.agreement import Agreement, agreement
from benchmark.stats.bootstrap import Estimate, Resampling
from benchmark.stats.calibration import Calibration, calibrate
from benchmark.stats.power import Detectable, detectable
from benchmark.stats.rotations import LetterPreference, consistency
from benchmark.stats.significance import McNemar


@dataclass(frozen=True)
class Share:
    """Correct answers among n, with the Wilson 95 % interval; a tie between options counts as its expectation."""

    n: int
    correct: float
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Correct over n."""
        return self.correct / self.n


@dataclass(frozen=True)
class Accuracies:
    """The two accuracies that always stand side by side: of all cases (Wilson), and the mean over classes (bootstrap)."""

    overall: Share
    macro: Estimate


@dataclass(frozen=True)
class Flips:
    """Questions that the second run answers rightly and the first did not (`fixed`), and the other way round (`broken`)."""

    fixed: int
    broken: int


@dataclass(frozen=True)
class Unnamed:
    """A reply that names no option: which case, in which order of its options, and the reply."""

    case: str
    rotation: int
    reply: str


@dataclass(frozen=True)
class ViewPair:
    """Two views of the same run, answer by answer over all orders.

    Attributes:
        first, second: the views.
        agreement: how far they choose alike.
        equal: its share of equal choices, with a bootstrap interval over groups.
    """

    first: View
    second: View
    agreement: Agreement
    equal: Estimate


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        name: what the model is called.
        groups: number of patients or eyes.
        rotations: number of orders in which each case was asked.
        primary: how the answers are read for all that follows up to `sources`.
        overall: all cases, with the Wilson interval.
        macro: mean over classes, bootstrap over groups.
        ten_class: mean over those of the paper's ten classes that occur (NaN where none does).
        ten_present: which these are.
        classes: class code -> share, the most frequent class first.
        sources: data set -> share, the largest first.
        readings: every way to read the answers -> its accuracies.
        letters: view -> how often A, B, C and D, as asked, were picked over all orders.
        consistency: view -> share of the cases in which all orders lead to the same option.
        answers: how often A, B, C and D were true over all orders.
        unnamed: replies of the text view that name no option.
        replies: number of replies of the text view.
        pairs: every two views.
        calibration: of the probabilities that count; None where the answers are read from words.
    """

    name: str
    groups: int
    rotations: int
    primary: Reading
    overall: Share
    macro: Estimate
    ten_class: Estimate
    ten_present: tuple[str, ...]
    classes: Mapping[str, Share]
    sources: Mapping[str, Share]
    readings: Mapping[Reading, Accuracies]
    letters: Mapping[View, LetterPreference]
    consistency: Mapping[View, float]
    answers: tuple[int, ...]
    unnamed: tuple[Unnamed, ...]
    replies: int
    pairs: tuple[ViewPair, ...]
    calibration: Calibration | None

    @property
    def majority_letter(self) -> float:
        """Accuracy of always answering the letter that is true most often."""
        return max(self.answers) / sum(self.answers)


@dataclass(frozen=True)
class ReadingChange:
    """After minus before in one way of reading both runs."""

    overall: Estimate
    macro: Estimate
    mcnemar: McNemar


@dataclass(frozen=True)
class Change:
    """After minus before on the same cases.

    Attributes:
        overall, macro, ten_class: differences as fractions, with bootstrap intervals over groups.
        mcnemar: exact test over cases.
        sign_flip_p: permutation test over groups; the one to trust where several cases share a group.
        detectable: the smallest difference that these cases could have shown.
        flips: of all cases.
        classes, sources: flips by class code and by data set.
        class_p: class code -> p of the exact McNemar test within the class, with Holm's correction over all classes.
        readings: the ways that both runs can be read -> the difference.
    """

    overall: Estimate
    macro: Estimate
    ten_class: Estimate
    mcnemar: McNemar
    sign_flip_p: float
    detectable: Detectable
    flips: Flips
    classes: Mapping[str, Flips]
    sources: Mapping[str, Flips]
    class_p: Mapping[str, float]
    readings: Mapping[Reading, ReadingChange]

    @property
    def settled(self) -> bool:
        """Whether interval and both tests agree that there is a difference."""
        excludes_zero = self.overall.low > 0 or self.overall.high < 0
        return excludes_zero and max(self.mcnemar.p, self.sign_flip_p) < 0.05


def summarise(answers: Answers, drawn: Resampling) -> RunSummary:
    """Numbers of one run; `drawn` is a resampling of its cases in the same order."""
    values = answers.correct(answers.primary)
    numbers = significance.summarise(values, answers.codes, answers.groups, resampling=drawn)
    return RunSummary(
        name=answers.name,
        groups=numbers.groups,
        rotations=answers.rotations,
        primary=answers.primary,
        overall=Share(numbers.n, float(values.sum()), numbers.wilson.low, numbers.wilson.high),
        macro=numbers.macro,
        ten_class=numbers.ten_class,
        ten_present=numbers.ten_class_present,
        classes=_shares(values, answers.codes),
        sources=_shares(values, answers.sources),
        readings={reading: _score(answers.correct(reading), drawn) for reading in answers.readings},
        letters={view: answers.letters(view) for view in answers.scores},
        consistency={view: consistency(answers.picked_in_each_order(view)) for view in answers.scores},
        answers=answers.true_letters(),
        unnamed=_unnamed(answers),
        replies=answers.truth.size * answers.rotations if "text" in answers.scores else 0,
        pairs=tuple(_pair(answers, *views, drawn) for views in combinations(answers.scores, 2)),
        calibration=_calibration(answers, drawn),
    )


def check_comparable(before: Run, after: Run, any_prompt: bool = False) -> None:
    """Refuse two runs that are not of the same cases, rotations, questions and, without `any_prompt`, prompts.

    Raises:
        ComparisonError: naming what differs.
    """
    if found := differences(before, after, prompts=not any_prompt):
        raise ComparisonError(
            f"{before.name!r} (before) and {after.name!r} (after) can't be compared; they differ in " + "; ".join(found)
        )


def compare(before: Answers, after: Answers, drawn: Resampling) -> Change:
    """The difference of answers about the same cases in the same order; `drawn` as in `summarise`."""
    numbers = significance.compare(
        before.correct(before.primary), after.correct(after.primary), after.codes, after.groups, resampling=drawn
    )
    first, second = before.right(before.primary), after.right(after.primary)
    tests = significance.mcnemar_by_class(first, second, after.codes)
    return Change(
        overall=numbers.overall,
        macro=numbers.macro,
        ten_class=numbers.ten_class,
        mcnemar=significance.mcnemar(first, second),
        sign_flip_p=numbers.sign_flip_p,
        detectable=detectable(first, second, after.groups),
        flips=_flips(first, second),
        classes=_flips_by(first, second, after.codes),
        sources=_flips_by(first, second, after.sources),
        class_p=dict(zip(tests["code"], tests["p_holm"], strict=True)),
        readings={
            reading: _reading_change(before, after, reading, drawn)
            for reading in after.readings
            if reading in before.readings
        },
    )


def _score(values: np.ndarray, drawn: Resampling) -> Accuracies:
    interval = significance.wilson(float(values.sum()), len(values))
    return Accuracies(Share(len(values), float(values.sum()), interval.low, interval.high), drawn.class_mean(values))


def _pair(answers: Answers, first: View, second: View, drawn: Resampling) -> ViewPair:
    one, other = answers.picked_in_each_order(first), answers.picked_in_each_order(second)
    found = agreement(*([None if pick == NONE else pick for pick in picks.ravel().tolist()] for picks in (one, other)))
    equal = ((one == other) & (one != NONE)).mean(axis=1)
    return ViewPair(first, second, found, drawn.mean(equal))


def _calibration(answers: Answers, drawn: Resampling) -> Calibration | None:
    if answers.primary.view != "letter":
        return None
    return calibrate(answers.table(answers.primary), answers.truth, answers.groups, resampling=drawn)


def _reading_change(before: Answers, after: Answers, reading: Reading, drawn: Resampling) -> ReadingChange:
    difference = after.correct(reading) - before.correct(reading)
    return ReadingChange(
        drawn.mean(difference),
        drawn.class_mean(difference),
        significance.mcnemar(before.right(reading), after.right(reading)),
    )


def _unnamed(answers: Answers) -> tuple[Unnamed, ...]:
    if "text" not in answers.scores:
        return ()
    rows = zip(*np.nonzero(answers.picked_in_each_order("text") == NONE), strict=True)
    return tuple(Unnamed(answers.cases[case], int(order), answers.replies[case][order]) for case, order in rows)


def _shares(values: np.ndarray, names: Sequence[str]) -> dict[str, Share]:
    shares = {}
    for code, n, accuracy, low, high in significance.per_class(values, names).itertuples(index=False, name=None):
        shares[str(code)] = Share(n, accuracy * n, low, high)
    return shares


def _flips(first: np.ndarray, second: np.ndarray) -> Flips:
    return Flips(int((second > first).sum()), int((second < first).sum()))


def _flips_by(first: np.ndarray, second: np.ndarray, names: Sequence[str]) -> dict[str, Flips]:
    labels = np.asarray(names)
    return {name: _flips(first[labels == name], second[labels == name]) for name in dict.fromkeys(names)}
