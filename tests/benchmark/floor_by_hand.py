"""The class-frequency guesser computed question by question: what the product's floors are held against."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.cases.floor import Floor
from mgll.vocabulary.diseases import TEN_CLASSES


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


def _score(preference: np.ndarray, answers: Sequence[int]) -> np.ndarray:
    picked = preference == preference.max(axis=1, keepdims=True)
    return np.asarray(picked[np.arange(len(answers)), answers] / picked.sum(axis=1))


def _by_class(preference: np.ndarray, answers: Sequence[int], codes: Sequence[str]) -> dict[str, float]:
    score, names = _score(preference, answers), np.array(codes)
    return {code: float(score[names == code].mean()) for code in dict.fromkeys(codes)}
