"""The prior-only floor: what is scored without looking, by always picking the option whose class is most frequent.

It stands beside every accuracy. Frequencies are those of the cases' own answers, or those of a training manifest, which is
what fine-tuning can learn.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from benchmark.cases.case import Case
from benchmark.options.draw import class_counts
from mgll.manifest.records import Record
from mgll.vocabulary.diseases import TEN_CLASSES, possible_codes


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


def prior_floor(cases: Sequence[Case], training: Sequence[Record] | None = None) -> Floor:
    """Floor with the frequencies of the cases' own answers, or of the classes in `training` where given."""
    options = [case.option_codes for case in cases]
    answers = [case.answer for case in cases]
    if training is None:
        return floor_of(options, answers, Counter(case.code for case in cases), "these cases' answers")
    return floor_of(options, answers, class_counts([record.labels for record in training]), "the training manifest")


def floor_of(
    options: Sequence[Sequence[str]], answers: Sequence[int], frequency: Mapping[str, int], frequencies_of: str
) -> Floor:
    """Floor of questions given as class codes; a tie between options counts as its expectation, nothing is guessed.

    Args:
        options: [questions][4] class codes.
        answers: [questions] index of the true option.
        frequency: class -> how often it occurs; 0 where missing.
        frequencies_of: says in the result where these come from.
    """
    if not options:
        raise ValueError("no question")
    known = np.array([[frequency.get(code, 0) for code in four] for four in options])
    codes = [four[answer] for four, answer in zip(options, answers, strict=True)]
    by_class = _by_class(known, answers, codes)
    ten = [by_class[code] for code in TEN_CLASSES if code in by_class]
    return Floor(
        overall=float(_score(known, answers).mean()),
        macro=float(np.mean(list(by_class.values()))),
        ten_class=float(np.mean(ten)) if ten else float("nan"),
        rarest_macro=float(np.mean(list(_by_class(-known, answers, codes).values()))),
        by_class=by_class,
        frequencies_of=frequencies_of,
    )


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


def _score(preference: np.ndarray, answers: Sequence[int]) -> np.ndarray:
    """[questions] expected score of picking the option that is preferred most."""
    picked = preference == preference.max(axis=1, keepdims=True)
    return np.asarray(picked[np.arange(len(answers)), answers] / picked.sum(axis=1))


def _by_class(preference: np.ndarray, answers: Sequence[int], codes: Sequence[str]) -> dict[str, float]:
    score, names = _score(preference, answers), np.array(codes)
    return {code: float(score[names == code].mean()) for code in dict.fromkeys(codes)}


def describe_floor(floor: Floor) -> str:
    """Two lines for the terminal."""
    return (
        f"prior-only floor (most frequent option by {floor.frequencies_of}): {floor.overall:.1%} overall,"
        f" {floor.macro:.1%} macro, {floor.ten_class:.1%} ten-class average; chance 25 %\n"
        f"always picking the rarest option instead: {floor.rarest_macro:.1%} macro"
    )
