"""The floors: what is scored without looking, by rules that know how often classes occur, or from which source a photograph comes.

Three stand beside every number of a report (`Floors`): always the most frequent class among the options, the best guess from the
source of the photograph alone, and always the rarest class. What the rules know they learn from training questions where these are
given, else from the answers of the cases themselves. `expected_floor` is the first of them where only class counts are known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np

from benchmark.cases.case import Case
from benchmark.stats.numbers import Number, Questions
from mgll.manifest.records import patient_of
from mgll.vocabulary.diseases import FUNDUS, TEN_CLASSES, possible_codes

#: A rule that answers without looking.
Rule = Literal["frequency", "source", "rarest"]

RULE_NAMES: Mapping[Rule, str] = {
    "frequency": "class frequency",
    "source": "source only",
    "rarest": "rarest option",
}


_ANY = "\0"  # no source is called so


@dataclass(frozen=True)
class Floors:
    """What the rules that do not look would pick.

    Attributes:
        picked: rule -> how far it picks each option [cases, 4]; a tie is shared.
        learned_from: whose answers the rules know.
    """

    picked: Mapping[Rule, np.ndarray]
    learned_from: str

    def of(self, number: Number) -> dict[Rule, float]:
        """What each rule scores in a number."""
        return {rule: number.value(picked) for rule, picked in self.picked.items()}


def floors(cases: Sequence[Case], training: Sequence[Case] | None = None) -> Floors:
    """The three rules on these cases, fitted on training questions, or without any on the cases' own answers.

    `frequency` picks the class that is the answer most often, `rarest` the one that is so least often. `source` picks the class
    that was right most often of the times it was offered about photographs of that source; where the source was never met, of all.
    """
    known = cases if training is None else training
    frequency = Counter(case.code for case in known)
    right, offered = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for case in known:
        for source in (case.source, _ANY):
            right[source, case.code] += 1
            offered.update((source, code) for code in case.option_codes)
    met = {case.source for case in known}
    counts = np.array([[frequency[code] for code in case.option_codes] for case in cases], dtype=float)
    rates = np.array(
        [
            [
                right[key] / offered[key] if offered[key] else 0.0
                for key in ((case.source if case.source in met else _ANY, code) for code in case.option_codes)
            ]
            for case in cases
        ]
    )
    picked: dict[Rule, np.ndarray] = {"frequency": _best(counts), "source": _best(rates), "rarest": _best(-counts)}
    return Floors(picked, "these questions' own answers" if training is None else "the training questions")


def questions_of(cases: Sequence[Case]) -> Questions:
    """What numbers are made of, from cases."""
    return Questions(
        [case.option_codes for case in cases],
        np.array([case.answer for case in cases]),
        ["/".join(patient_of(case.source, case.group)) for case in cases],
        of_paper=all(case.table is FUNDUS for case in cases),
    )


def describe_floors(cases: Sequence[Case], training: Sequence[Case] | None = None) -> str:
    """A line for each rule: what it scores overall, as macro and ten-class average, and in informedness."""
    found, questions = floors(cases, training), questions_of(cases)
    lines = []
    for rule, picked in found.picked.items():
        numbers = {number.name: number.value(picked) for number in questions.totals()}
        ten = f", {numbers['ten_class']:.1%} ten-class average" if "ten_class" in numbers else ""
        lines.append(
            f"without looking, {RULE_NAMES[rule]} (of {found.learned_from}): {numbers['overall']:.1%} overall,"
            f" {numbers['macro']:.1%} macro{ten}, informedness {numbers['informedness']:.1%}"
        )
    return "\n".join([*lines, "guessing: 25.0% of each, informedness 0.0%"])


@dataclass(frozen=True)
class Floor:
    """Expected accuracy of the class-frequency guesser.

    Attributes:
        overall: mean over cases.
        macro: unweighted mean over classes.
        ten_class: unweighted mean over the paper's ten classes that occur (NaN if none does).
        rarest_macro: macro average of the opposite guesser, who always picks the option whose class is rarest. No set of
            questions with classes of unequal size protects the macro average from it.
        by_class: class -> accuracy.
        frequencies_of: whose frequencies the guesser knows.
    """

    overall: float
    macro: float
    ten_class: float
    rarest_macro: float
    by_class: Mapping[str, float]
    frequencies_of: str


def expected_floor(cases: Mapping[str, int], names: Iterable[str] | None = None, clean: bool = False) -> Floor:
    """Floor of the paper's options in expectation over all draws of the distractors: for published rows, whose options are unknown.

    With Table 14's counts (`class_counts.table14_counts`) and its 25 names: 75.1 % overall and 33.1 % for the ten classes; with 50
    names 85.7 % and 56.9 %.

    Args:
        cases: class -> number of cases whose answer it is.
        names: codes that distractors are drawn from uniformly, by default the classes themselves.
        clean: draw only from names that cannot hold for an image whose only label is the answer.
    """
    if not any(cases.values()):
        raise ValueError("no class has a case")
    names = list(dict.fromkeys([*cases, *(names or ())]))
    by_class, rarest = {}, {}
    for code in (code for code, number in cases.items() if number):
        excluded = possible_codes([code]) if clean else {code}
        others = np.array([cases.get(name, 0) for name in names if name not in excluded])
        if len(others) < 3:
            raise ValueError(f"{code} has {len(others)} names to draw distractors from, three are needed")
        above, below = int((others > cases[code]).sum()), int((others < cases[code]).sum())
        by_class[code] = _all_beaten(below, len(others) - below - above, len(others))
        rarest[code] = _all_beaten(above, len(others) - below - above, len(others))
    ten = [by_class[code] for code in TEN_CLASSES if code in by_class]
    return Floor(
        overall=sum(by_class[code] * cases[code] for code in by_class) / sum(cases.values()),
        macro=float(np.mean(list(by_class.values()))),
        ten_class=float(np.mean(ten)) if ten else float("nan"),
        rarest_macro=float(np.mean(list(rarest.values()))),
        by_class=by_class,
        frequencies_of=f"the class counts, expected over distractors from {len(names)} names",
    )


def _all_beaten(worse: int, equal: int, names: int) -> float:
    """Expected score of the answer against three distractors out of `names`, ties shared: none may be better."""
    return sum(comb(equal, tied) * comb(worse, 3 - tied) / (tied + 1) for tied in range(4)) / comb(names, 3)


def _best(preference: np.ndarray) -> np.ndarray:
    """How far each option is picked [cases, 4] where the most preferred is, a tie shared."""
    picked = preference >= preference.max(axis=1, keepdims=True) - 1e-12
    return np.asarray(picked / picked.sum(axis=1, keepdims=True))
