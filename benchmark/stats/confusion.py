"""Which disease is taken for which: what was chosen among the four options, by what was true."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.stats.significance import Estimate, wilson


@dataclass(frozen=True)
class Confusion:
    """Choices by pairs of classes. Only four classes are offered at a time, so a choice counts against how often it was offered.

    Attributes:
        codes: classes; those that are true most often come first, those that are never true last.
        offered: [true class, other class] how often the other stood among the options.
        chosen: [true class, other class] how often it was chosen then; the diagonal holds the right answers.
    """

    codes: tuple[str, ...]
    offered: np.ndarray
    chosen: np.ndarray

    def rate(self, true: str, other: str) -> Estimate:
        """Share of the times that `other` stood beside the true class in which it was chosen, with its Wilson interval."""
        row, column = self.codes.index(true), self.codes.index(other)
        return wilson(float(self.chosen[row, column]), int(self.offered[row, column]))

    def mistakes(self) -> list[tuple[str, str]]:
        """(true, taken for) of all pairs that were confused, those confused most often first."""
        wrong = np.where(np.eye(len(self.codes), dtype=bool), 0, self.chosen)
        pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(wrong), strict=True)]
        pairs.sort(key=lambda pair: (-self.chosen[pair], self.offered[pair]))
        return [(self.codes[row], self.codes[column]) for row, column in pairs]


def confusion(option_codes: Sequence[Sequence[str]], truth: Sequence[int], picked: np.ndarray) -> Confusion:
    """Count choices.

    Args:
        option_codes: [cases][4] class codes.
        truth: [cases] index of the true option.
        picked: [cases] index of the chosen option, negative where there is none.
    """
    true_codes = [codes[index] for codes, index in zip(option_codes, truth, strict=True)]
    order = sorted(dict.fromkeys(true_codes), key=lambda code: -true_codes.count(code))
    codes = tuple(dict.fromkeys([*order, *(code for four in option_codes for code in four)]))
    number = {code: index for index, code in enumerate(codes)}
    offered = np.zeros((len(codes), len(codes)), dtype=int)
    chosen = np.zeros_like(offered)
    for four, true, choice in zip(option_codes, true_codes, picked, strict=True):
        for code in four:
            offered[number[true], number[code]] += 1
        if choice >= 0:
            chosen[number[true], number[four[choice]]] += 1
    return Confusion(codes, offered, chosen)
