"""From predictions to numbers: a pure function of the files, so that any report can be made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import nan

import numpy as np
import pandas as pd

from benchmark.predictions.answers import NONE, Answers, Reading
from benchmark.predictions.file import ComparisonError, Run, differences
from benchmark.scorers.scorer import View
from benchmark.stats import significance
from benchmark.stats.agreement import Agreement, agreement
from benchmark.stats.bootstrap import Estimate, Resampling
from benchmark.stats.calibration import Calibration, calibrate
from benchmark.stats.numbers import Number, Questions
from benchmark.stats.power import Detectable, detectable
from benchmark.stats.rotations import LetterPreference, consistency
from benchmark.stats.seeds import OverSeeds, corrected, method_difference, method_number
from benchmark.stats.significance import McNemar

#: With fewer runs a side no class is said to differ: of real runs of one method two against two did so in 10 % of comparisons.
SEEDS_BY_CLASS = 3

#: Where there is nothing to average.
UNKNOWN = Estimate(nan, nan, nan)


@dataclass(frozen=True)
class Share:
    """Correct answers among n, with a 95 % interval over patients; a tie between options counts as its expectation."""

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
    """The two accuracies that always stand side by side: of all cases and the mean over classes, bootstrap over groups."""

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
    """The numbers of one run.

    Attributes:
        name: what the model is called.
        groups: number of patients or eyes.
        rotations: number of orders in which each case was asked.
        primary: how the answers are read for all that follows up to `sources`.
        overall: all cases, bootstrap over groups.
        macro: mean over classes, bootstrap over groups.
        ten_class: mean over those of the paper's ten classes that occur (NaN where none does).
        ten_present: which these are.
        informedness: mean over classes of how much more often each is picked where true than where offered and false.
        ten_informedness: the same over the ten classes.
        classes: class code -> share, the most frequent class first; intervals over patients (`significance.clustered_share`).
        class_informedness: class code -> informedness.
        sources: data set -> share, the largest first.
        readings: every way to read the answers -> its accuracies.
        letters: view -> how often A, B, C and D, as asked, were picked over all orders.
        consistency: view -> share of the cases in which all orders lead to the same option.
        answers: how often A, B, C and D were true over all orders.
        unnamed: replies of the text view that name no option.
        replies: number of replies of the text view.
        pairs: every two views.
        calibration: of the probabilities that count; None where the answers are read from words.
        over_seeds: name of a number -> what several runs of one method say about it; empty for one run. The values from `overall`
            to `sources` are then means over the runs, with intervals that take runs and patients as random; all else is of the
            first run.
    """

    name: str
    groups: int
    rotations: int
    primary: Reading
    overall: Share
    macro: Estimate
    ten_class: Estimate
    ten_present: tuple[str, ...]
    informedness: Estimate
    ten_informedness: Estimate
    classes: Mapping[str, Share]
    class_informedness: Mapping[str, Estimate]
    sources: Mapping[str, Share]
    readings: Mapping[Reading, Accuracies]
    letters: Mapping[View, LetterPreference]
    consistency: Mapping[View, float]
    answers: tuple[int, ...]
    unnamed: tuple[Unnamed, ...]
    replies: int
    pairs: tuple[ViewPair, ...]
    calibration: Calibration | None
    over_seeds: Mapping[str, OverSeeds] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Number of runs behind the numbers."""
        return len(self.over_seeds["overall"].by_run) if self.over_seeds else 1

    @property
    def majority_letter(self) -> float:
        """Accuracy of always answering the letter that is true most often."""
        return max(self.answers) / sum(self.answers)


@dataclass(frozen=True)
class ReadingChange:
    """After minus before in one way of reading both runs."""

    overall: Estimate
    macro: Estimate
    p: float


@dataclass(frozen=True)
class Change:
    """After minus before on the same cases.

    Attributes:
        overall, macro, ten_class: differences as fractions, with bootstrap intervals over groups.
        informedness, ten_informedness: differences of these, with intervals over groups.
        p: of the overall difference. One run a side: permutation test over groups (sign flip), about these weights. Several a side:
            of the interval over runs and patients, about the methods.
        runs: number of runs before and after.
        mcnemar: exact test over cases, of the first runs; its size is right only where no two cases share a group.
        detectable: the smallest difference that these cases could have shown.
        flips: of all cases.
        classes, sources: flips by class code and by data set.
        class_informedness: class code -> difference in informedness.
        class_p: class code -> p of that difference over runs and patients, with Holm's correction over all classes. A liking for a
            class's name can't move it. NaN with fewer than `SEEDS_BY_CLASS` runs on a side: two sets of weights nearly always
            differ in some class, and nothing follows for their methods.
        readings: the ways that both runs can be read -> the difference.
        over_seeds: name of a number -> the difference over several runs a side; empty where each side has one run.
        class_changes: class code -> difference in accuracy.
        source_changes: data set -> difference in accuracy.
    """

    overall: Estimate
    macro: Estimate
    ten_class: Estimate
    informedness: Estimate
    ten_informedness: Estimate
    p: float
    runs: tuple[int, int]
    mcnemar: McNemar
    detectable: Detectable
    flips: Flips
    classes: Mapping[str, Flips]
    sources: Mapping[str, Flips]
    class_informedness: Mapping[str, Estimate]
    class_p: Mapping[str, float]
    readings: Mapping[Reading, ReadingChange]
    class_changes: Mapping[str, Estimate]
    source_changes: Mapping[str, Estimate]
    over_seeds: Mapping[str, OverSeeds] = field(default_factory=dict)

    @property
    def of_methods(self) -> bool:
        """Whether both sides have several runs, so that the difference is one of methods and not of two sets of weights."""
        return bool(self.over_seeds)

    @property
    def settled(self) -> bool:
        """Whether interval and test agree that there is a difference."""
        excludes_zero = self.overall.low > 0 or self.overall.high < 0
        return excludes_zero and self.p < 0.05


def summarise(answers: Answers, questions: Questions, drawn: Resampling) -> RunSummary:
    """Numbers of one run about these questions; `drawn` is a resampling of its cases in the same order."""
    values, picked = answers.correct(answers.primary), [answers.shares(answers.primary)]
    overall = drawn.mean(values)
    informedness = {number.name: method_number(number, questions, picked).estimate for number in questions.totals()}
    ten = questions.ten
    return RunSummary(
        name=answers.name,
        groups=drawn.groups,
        rotations=answers.rotations,
        primary=answers.primary,
        overall=Share(len(values), float(values.sum()), overall.low, overall.high),
        macro=drawn.class_mean(values),
        ten_class=drawn.class_mean(values, ten),
        ten_present=ten,
        informedness=informedness["informedness"],
        ten_informedness=informedness.get("ten_informedness", UNKNOWN),
        classes=_shares(values, answers.codes, answers.groups),
        class_informedness={
            code: method_number(questions.informedness_of(code), questions, picked).estimate for code in questions.codes
        },
        sources=_shares(values, answers.sources, answers.groups),
        readings={reading: _score(answers.correct(reading), drawn) for reading in answers.readings},
        letters={view: answers.letters(view) for view in answers.scores},
        consistency={view: consistency(answers.picked_in_each_order(view)) for view in answers.scores},
        answers=answers.true_letters(),
        unnamed=_unnamed(answers),
        replies=answers.truth.size * answers.rotations if "text" in answers.scores else 0,
        pairs=tuple(_pair(answers, *views, drawn) for views in combinations(answers.scores, 2)),
        calibration=_calibration(answers, drawn),
    )


def summarise_runs(first: RunSummary, runs: Sequence[Answers], questions: Questions) -> RunSummary:
    """The summary of a method from several runs: means over the runs in place of the first run's numbers."""
    if len(runs) == 1:
        return first
    picked = [run.shares(run.primary) for run in runs]
    found = {number.name: method_number(number, questions, picked) for number in questions.totals()}
    return replace(
        first,
        overall=_share(found["overall"].estimate, first.overall.n),
        macro=found["macro"].estimate,
        ten_class=found["ten_class"].estimate if "ten_class" in found else UNKNOWN,
        informedness=found["informedness"].estimate,
        ten_informedness=found["ten_informedness"].estimate if "ten_informedness" in found else UNKNOWN,
        classes={
            code: _share(method_number(questions.accuracy(code), questions, picked).estimate, share.n)
            for code, share in first.classes.items()
        },
        class_informedness={
            code: method_number(questions.informedness_of(code), questions, picked).estimate for code in questions.codes
        },
        sources={
            source: _share(method_number(number, questions, picked).estimate, first.sources[source].n)
            for source, number in _source_numbers(runs[0], questions).items()
        },
        over_seeds=found,
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


def compare(before: Answers, after: Answers, questions: Questions, drawn: Resampling) -> Change:
    """The difference of two runs about the same cases in the same order; `drawn` is a resampling of those cases."""
    one, two = before.correct(before.primary), after.correct(after.primary)
    first, second = before.right(before.primary), after.right(after.primary)
    ten = questions.ten
    picked = [[before.shares(before.primary)], [after.shares(after.primary)]]

    def difference(number: Number) -> Estimate:
        return method_difference(number, questions, *picked).estimate

    informedness = {number.name: difference(number) for number in questions.totals() if "informed" in number.name}
    by_class = {code: questions.informedness_of(code) for code in questions.codes}
    readings = {
        reading: _reading_change(before, after, reading, drawn)
        for reading in after.readings
        if reading in before.readings
    }
    alike = readings.get(after.primary) if before.primary == after.primary else None
    return Change(
        overall=drawn.mean(two - one),
        macro=drawn.class_mean(two - one),
        ten_class=drawn.class_mean(two - one, ten),
        informedness=informedness["informedness"],
        ten_informedness=informedness.get("ten_informedness", UNKNOWN),
        p=alike.p if alike else significance.sign_flip(two - one, after.groups),
        runs=(1, 1),
        mcnemar=significance.mcnemar(first, second),
        detectable=detectable(first, second, after.groups),
        flips=_flips(first, second),
        classes=_flips_by(first, second, after.codes),
        sources=_flips_by(first, second, after.sources),
        class_informedness={code: difference(number) for code, number in by_class.items()},
        class_p=dict.fromkeys(by_class, nan),
        readings=readings,
        class_changes={code: difference(questions.accuracy(code)) for code in questions.codes},
        source_changes={source: difference(number) for source, number in _source_numbers(after, questions).items()},
    )


def compare_runs(first: Change, before: Sequence[Answers], after: Sequence[Answers], questions: Questions) -> Change:
    """The difference of two methods from several runs of each; of two sets of weights where each has one run."""
    if len(before) == len(after) == 1:
        return first
    picked = [[run.shares(run.primary) for run in side] for side in (before, after)]
    found = {number.name: method_difference(number, questions, *picked) for number in questions.totals()}
    by_class = {
        code: method_difference(questions.informedness_of(code), questions, *picked) for code in questions.codes
    }
    enough = min(len(before), len(after)) >= SEEDS_BY_CLASS
    p = corrected([entry.p if enough else nan for entry in by_class.values()])
    return replace(
        first,
        overall=found["overall"].estimate,
        macro=found["macro"].estimate,
        ten_class=found["ten_class"].estimate if "ten_class" in found else UNKNOWN,
        informedness=found["informedness"].estimate,
        ten_informedness=found["ten_informedness"].estimate if "ten_informedness" in found else UNKNOWN,
        p=found["overall"].p,
        runs=(len(before), len(after)),
        class_informedness={code: entry.estimate for code, entry in by_class.items()},
        class_p=dict(zip(by_class, p.tolist(), strict=True)),
        class_changes={
            code: method_difference(questions.accuracy(code), questions, *picked).estimate for code in questions.codes
        },
        source_changes={
            source: method_difference(number, questions, *picked).estimate
            for source, number in _source_numbers(after[0], questions).items()
        },
        over_seeds=found,
    )


def _source_numbers(answers: Answers, questions: Questions) -> dict[str, Number]:
    names = np.asarray(answers.sources)
    return {source: questions.overall(names == source) for source in dict.fromkeys(answers.sources)}


def _share(estimate: Estimate, n: int) -> Share:
    return Share(n, estimate.value * n, max(estimate.low, 0.0), min(estimate.high, 1.0))


def _score(values: np.ndarray, drawn: Resampling) -> Accuracies:
    overall = drawn.mean(values)
    return Accuracies(Share(len(values), float(values.sum()), overall.low, overall.high), drawn.class_mean(values))


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
        significance.sign_flip(difference, after.groups),
    )


def _unnamed(answers: Answers) -> tuple[Unnamed, ...]:
    if "text" not in answers.scores:
        return ()
    rows = zip(*np.nonzero(answers.picked_in_each_order("text") == NONE), strict=True)
    return tuple(Unnamed(answers.cases[case], int(order), answers.replies[case][order]) for case, order in rows)


def _shares(values: np.ndarray, names: Sequence[str], groups: Sequence[str]) -> dict[str, Share]:
    """Name -> its share, the largest number of cases first; intervals over patients."""
    named, patients = np.asarray(names), np.asarray(groups)
    shares = {}
    for name, n in pd.Series(names).value_counts(sort=True).items():
        mine = named == name
        estimate = significance.clustered_share(values[mine], patients[mine])
        shares[str(name)] = Share(int(n), float(values[mine].sum()), estimate.low, estimate.high)
    return shares


def _flips(first: np.ndarray, second: np.ndarray) -> Flips:
    return Flips(int((second > first).sum()), int((second < first).sum()))


def _flips_by(first: np.ndarray, second: np.ndarray, names: Sequence[str]) -> dict[str, Flips]:
    labels = np.asarray(names)
    return {name: _flips(first[labels == name], second[labels == name]) for name in dict.fromkeys(names)}
