"""The numbers that a report claims, each as one linear form of what was picked: accuracies, and what a liking for names can't move.

Every number is a sum over questions and options of a fixed weight times how far the option was picked (1, 0, or a share where
options tie). One form serves a run, the mean of several runs, a difference, and a rule that never saw the images.

*Informedness* of a class is how much more often it is picked where it is true than where it is offered and false. Liking a name
raises both alike, so it moves nothing; accuracy of that class it would raise to 100 %. 0 is what every strategy gets that does not
see the image (on options in which each of the four is true equally often), 1 is always right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.stats.first_seen import first_seen
from mgll.vocabulary.diseases import TEN_CLASSES


@dataclass(frozen=True)
class Number:
    """A linear form over questions and options.

    Attributes:
        name: `overall`, `macro`, `ten_class`, `informedness`, `ten_informedness`, `accuracy of CODE` or `informedness of CODE`.
        weights: [cases, 4].
        cells: [cases, 4] number of the mean that each entry belongs to; within a cell all weights are equal.
        patients: [cells] number of patients in each cell.
    """

    name: str
    weights: np.ndarray
    cells: np.ndarray
    patients: np.ndarray

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest that the number can be."""
        return (-1.0, 1.0) if (self.weights < 0).any() else (0.0, 1.0)

    def value(self, picked: np.ndarray) -> float:
        """The number of one run from how far each option was picked [cases, 4]."""
        return float((self.weights * picked).sum())

    def contributions(self, picked: np.ndarray) -> np.ndarray:
        """What each question adds to the number [cases]; they sum to `value`."""
        return np.asarray((self.weights * picked).sum(axis=1))

    def influence(self, picked: np.ndarray) -> np.ndarray:
        """What each question adds beyond its cells' means [cases]; they sum to 0, and their spread is that of the number.

        Where few patients make a mean, they scatter less about it than about the truth; this is made up for cell by cell.
        """
        cells = self.cells.ravel()
        sizes = np.maximum(np.bincount(cells), 1)
        means = np.bincount(cells, weights=picked.ravel()) / sizes
        scale = np.sqrt(self.patients / np.maximum(self.patients - 1, 1))
        return np.asarray((self.weights * scale[self.cells] * (picked - means[self.cells])).sum(axis=1))


@dataclass(frozen=True)
class Questions:
    """What numbers are made of: four class codes a question, which is true, and who is asked about.

    Attributes:
        options: [cases][4] class codes.
        truth: [cases] index of the true option.
        groups: [cases] patient or eye.
        of_paper: whether the codes are those of the paper, whose ten classes have an average of their own.
    """

    options: Sequence[Sequence[str]]
    truth: np.ndarray
    groups: Sequence[str]
    of_paper: bool = True

    @cached_property
    def ten(self) -> tuple[str, ...]:
        """Those of the paper's ten classes that are the answer of a question."""
        return tuple(code for code in TEN_CLASSES if code in self.codes) if self.of_paper else ()

    @cached_property
    def codes(self) -> list[str]:
        """Classes that are the answer of a question, the most frequent first."""
        import pandas as pd  # here, because it takes a second to import

        return [str(code) for code in pd.Series(self._true_codes).value_counts(sort=True).index]

    @cached_property
    def group_numbers(self) -> np.ndarray:
        """[cases] number of the group, in order of first appearance."""
        return first_seen(self.groups)[0]

    @cached_property
    def _numbered(self) -> tuple[np.ndarray, dict[str, int]]:
        """[cases, 4] number of each option's class, and the number of each class: faster to compare than names."""
        numbers, names = first_seen(np.asarray(self.options, dtype=object).ravel())
        return numbers.reshape(-1, 4), {str(name): number for number, name in enumerate(names)}

    @cached_property
    def _true_codes(self) -> np.ndarray:
        numbers, names = self._numbered
        return np.asarray(list(names))[numbers[np.arange(len(self.truth)), self.truth]]

    @cached_property
    def _is_true(self) -> np.ndarray:
        return np.asarray(self.truth)[:, None] == np.arange(4)

    def overall(self, among: np.ndarray | None = None) -> Number:
        """Accuracy over all questions, or over those where `among` [cases] holds."""
        chosen = np.ones(len(self.truth), dtype=bool) if among is None else among
        side = self._is_true & chosen[:, None]
        return self._number("overall", side / max(int(chosen.sum()), 1), side.astype(int))

    def accuracy(self, code: str) -> Number:
        """Accuracy over the questions whose answer is a class."""
        return self._number(f"accuracy of {code}", *self._mean([code]))

    def macro(self, among: Sequence[str] | None = None) -> Number:
        """Unweighted mean of the classes' accuracies, or of those `among` that occur."""
        name = "macro" if among is None else "ten_class"
        return self._number(name, *self._mean([code for code in self.codes if among is None or code in among]))

    def informedness(self, among: Sequence[str] | None = None) -> Number:
        """Unweighted mean of the classes' informedness, or of those `among` that occur as answer and as wrong option."""
        codes = [code for code in self.codes if among is None or code in among]
        name = "informedness" if among is None else "ten_informedness"
        return self._number(name, *self._mean(codes, wrong=True))

    def informedness_of(self, code: str) -> Number:
        """Informedness of one class."""
        return self._number(f"informedness of {code}", *self._mean([code], wrong=True))

    def totals(self) -> tuple[Number, ...]:
        """The numbers over all classes: overall, macro, ten-class, and both averages of informedness."""
        ten = (self.macro(self.ten), self.informedness(self.ten)) if self.ten else ()
        return (self.overall(), self.macro(), *ten[:1], self.informedness(), *ten[1:])

    def _number(self, name: str, weights: np.ndarray, cells: np.ndarray) -> Number:
        # a cell and a group as one number: pairs would be sorted ten times slower
        groups = int(self.group_numbers.max(initial=0)) + 1
        met = np.unique(cells * groups + self.group_numbers[:, None]) // groups
        return Number(name, weights, cells, np.bincount(met, minlength=int(cells.max(initial=0)) + 1))

    def _mean(self, codes: Sequence[str], wrong: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Weights and cells of the mean over classes of how often each is picked where true, less where offered and false."""
        numbers, names = self._numbered
        weights, cells = np.zeros(numbers.shape), np.zeros(numbers.shape, dtype=int)
        where = {code: numbers == names.get(code, -1) for code in codes}
        used = [code for code in codes if not wrong or (~self._is_true & where[code]).any()]
        for number, code in enumerate(used):
            sides = [(1.0, self._is_true & where[code])]
            if wrong:
                sides.append((-1.0, ~self._is_true & where[code]))
            for side, (sign, mask) in enumerate(sides):
                weights[mask] = sign / (mask.sum() * len(used))
                cells[mask] = 1 + 2 * number + side
        return weights, cells
