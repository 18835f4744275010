"""Any number of runs side by side: each method's numbers, and how far it lies from the first.

A method is one run, or several under different seeds. With several on both sides seeds and patients are random, and a difference
is one of methods (`benchmark.stats.seeds`). With one it is of sets of weights: its interval takes patients alone as random, and it
has no p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np

from benchmark.cases.case import Case
from benchmark.cases.floor import Floors, floors, questions_of
from benchmark.predictions.answers import Answers, Reading, answers_of
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, check_complete, differences
from benchmark.report.content import check_different
from benchmark.report.origin import Origin
from benchmark.stats.numbers import Questions
from benchmark.stats.seeds import OverSeeds, corrected, method_difference, method_number
from benchmark.stats.significance import clustered_share
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: what it is called.
        header: of its first run.
        numbers: name of a number (`benchmark.stats.numbers`) -> it, over the runs.
        changes: name of a number -> this method less the first; empty for the first.
        p: of the change in overall accuracy; NaN where a side has one run.
        p_holm: the same, corrected over the methods.
        origins: how each run's model was made.
    """

    name: str
    header: Mapping[str, object]
    numbers: Mapping[str, OverSeeds]
    changes: Mapping[str, OverSeeds] = field(default_factory=dict)
    p: float = nan
    p_holm: float = nan
    origins: tuple[Origin, ...] = ()

    @property
    def runs(self) -> int:
        """Number of its runs."""
        return len(self.numbers["overall"].by_run)


@dataclass(frozen=True)
class SideBySide:
    """All of it.

    Attributes:
        methods: in the order in which they were given.
        cases: what all runs answered.
        questions: what numbers are made of.
        floors: what rules that do not look would pick.
        images: what the runs were shown: `own`, or what hides the finding.
        primary: how the answers of the first run are read.
        rotations: in how many orders of its options it was asked.
    """

    methods: tuple[Method, ...]
    cases: tuple[Case, ...]
    questions: Questions
    floors: Floors
    images: str
    primary: Reading
    rotations: int

    @property
    def table(self) -> ClassTable:
        """The table of the classes that are asked about."""
        return self.cases[0].table if self.cases else FUNDUS


def side_by_side(
    cases: Sequence[Case],
    runs: Mapping[str, Sequence[Run]],
    training: Sequence[Case] | None = None,
    any_prompt: bool = False,
) -> SideBySide:
    """Compute the numbers.

    Args:
        cases: what all runs answered.
        runs: method -> its runs under different seeds, one or more; the others are set against the first method.
        training: questions that the floors learn from; default the cases' own answers.
        any_prompt: set hosts side by side that wrap the same question differently.

    Raises:
        ComparisonError: if the runs are not complete, not of these cases, or not comparable; also for copies of a run as seeds.
    """
    every = [run for own in runs.values() for run in own]
    for run in every:
        if cases_sha256(cases) != run.header["cases_sha256"]:
            raise ComparisonError(f"{run.name!r} answered other cases than the {len(cases)} given")
        check_complete(run, cases)
        if run.header["images"] != every[0].header["images"]:
            raise ComparisonError(
                f"{every[0].name!r} saw {every[0].header['images']} images and {run.name!r} {run.header['images']} ones; runs side"
                " by side must have been shown the same"
            )
        if found := differences(every[0], run, prompts=not any_prompt):
            raise ComparisonError(
                f"{every[0].name!r} and {run.name!r} can't stand side by side; they differ in " + "; ".join(found)
            )
    check_different(*runs.values())
    questions, order = questions_of(cases), [case.id for case in cases]
    numbers = (*questions.totals(), *(questions.accuracy(code) for code in questions.codes))
    answers = {name: [answers_of(run, order) for run in own] for name, own in runs.items()}
    if len(read_from := {one.primary.view for own in answers.values() for one in own}) > 1:
        raise ComparisonError(
            f"answers are read from {' and '.join(sorted(read_from))}; score all runs with the same --views"
        )
    picked = {name: [one.shares(one.primary) for one in own] for name, own in answers.items()}
    first = next(iter(runs))
    methods = []
    for name, own in runs.items():
        sides = picked[first], picked[name]
        changes = {} if name == first else {n.name: method_difference(n, questions, *sides) for n in numbers}
        several = changes and min(map(len, sides)) > 1
        found_numbers = {number.name: method_number(number, questions, picked[name]) for number in numbers}
        if len(own) == 1:
            found_numbers |= _of_one_run(found_numbers, answers[name][0], questions.codes)
        methods.append(
            Method(
                name,
                own[0].header,
                found_numbers,
                changes,
                changes["overall"].p if several else nan,
            )
        )
    holm = corrected([method.p for method in methods])
    methods = [replace(method, p_holm=float(p)) for method, p in zip(methods, holm, strict=True)]
    read = answers[first][0]
    return SideBySide(
        methods=tuple(methods),
        cases=tuple(cases),
        questions=questions,
        floors=floors(cases, training),
        images=str(every[0].header["images"]),
        primary=read.primary,
        rotations=read.rotations,
    )


def _of_one_run(numbers: Mapping[str, OverSeeds], answers: Answers, codes: Sequence[str]) -> dict[str, OverSeeds]:
    """The accuracies by class of one run with the intervals that its report gives them: a class has few patients."""
    values, named, groups = (
        np.asarray(one) for one in (answers.correct(answers.primary), answers.codes, answers.groups)
    )
    found = {}
    for code in codes:
        name, mine = f"accuracy of {code}", named == code
        found[name] = replace(numbers[name], estimate=clustered_share(values[mine], groups[mine]))
    return found
