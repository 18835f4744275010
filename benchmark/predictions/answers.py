"""A run's answers as arrays: what it picks in each view and each order of the options, and which answer counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from benchmark.predictions.file import Prediction, Run
from benchmark.scorers.scorer import VIEWS, Four, View
from benchmark.stats.rotations import SAME, LetterPreference, all_correct, average, expected_correct, letter_preference
from mgll.manifest.records import patient_of

#: How several orders of a question become one answer: the stored order alone; probabilities averaged option by option; right
#: only where every order is (CircularEval).
Way = Literal["stored", "averaged", "all"]

#: `picked` where a reply names no option.
NONE = -1


@dataclass(frozen=True)
class Reading:
    """One way to read the answers of a run: a view, and what becomes of the orders."""

    view: View
    way: Way


@dataclass(frozen=True)
class Answers:
    """The answers of one run, one entry a case, always in the same order of cases.

    Attributes:
        name: what the model is called.
        cases: ids.
        codes: class of the true option.
        groups: patient or eye; with its source before it where the name occurs in several, because these are several patients.
        sources: data set.
        truth: [cases] index of the true option in stored order.
        scores: view -> [cases, rotations, 4] in stored order: probabilities of the letters; 1 for the option that the reply names
            and 0 for the others; softmax of the mean log-likelihoods of the options' texts.
        replies: [cases][rotations] what the model wrote.
        letter_mass: [cases, rotations] probability of the four letters together, of the whole vocabulary; NaN where not known.
    """

    name: str
    cases: tuple[str, ...]
    codes: tuple[str, ...]
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    truth: np.ndarray
    scores: Mapping[View, np.ndarray]
    replies: tuple[tuple[str, ...], ...] = field(repr=False)
    letter_mass: np.ndarray = field(repr=False)

    @cached_property
    def rotations(self) -> int:
        """Number of orders in which each case was asked."""
        return len(self.replies[0])

    @cached_property
    def primary(self) -> Reading:
        """The answer that counts: letters before text, averaged over the orders where there are several."""
        return Reading("letter" if "letter" in self.scores else "text", "averaged" if self.rotations > 1 else "stored")

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """Every way in which these answers can be read."""
        ways: tuple[Way, ...] = ("stored", "averaged", "all") if self.rotations > 1 else ("stored",)
        return tuple(Reading(view, way) for view in VIEWS if view in self.scores for way in ways)

    def table(self, reading: Reading) -> np.ndarray:
        """[cases, 4] scores of the options, stored order or averaged over the orders."""
        scores = self.scores[reading.view]
        return np.asarray(scores[:, 0]) if reading.way == "stored" else average(scores)

    def picked(self, reading: Reading) -> np.ndarray:
        """[cases] option picked, or `NONE` where several tie or none is named. Over `all` orders it is not defined."""
        return _single(self.table(reading))

    def shares(self, reading: Reading) -> np.ndarray:
        """[cases, 4] how far each option is picked: 1 for one, a share each where several tie, 0 where none is named.

        Not defined over `all` orders.
        """
        leading = _leading(self.table(reading))
        return np.asarray(leading / np.maximum(leading.sum(axis=1, keepdims=True), 1))

    def picked_in_each_order(self, view: View) -> np.ndarray:
        """[cases, rotations] option picked, or `NONE` where several tie or none is named."""
        return _single(self.scores[view])

    def ties(self, reading: Reading) -> int:
        """In how many cases several options are ahead of the others, equal among themselves; not defined over `all` orders."""
        return int((_leading(self.table(reading)).sum(axis=-1) > 1).sum())

    def correct(self, reading: Reading) -> np.ndarray:
        """[cases] 1 where right, 0 where wrong; a tie with the true option counts as its expectation, but over `all` as wrong."""
        if reading.way == "all":
            return all_correct(self.picked_in_each_order(reading.view), self.truth)
        return expected_correct(self.table(reading), self.truth)

    def right(self, reading: Reading) -> np.ndarray:
        """[cases] 1 where the true option and no other is picked, else 0. Only where options tie does `correct` differ."""
        return np.floor(self.correct(reading))

    def letters(self, view: View) -> LetterPreference:
        """How often A, B, C and D, as asked, were picked over all orders."""
        return letter_preference(self.picked_in_each_order(view))

    def true_letters(self) -> tuple[int, int, int, int]:
        """How often the true option stood at A, B, C and D over all orders."""
        return letter_preference(np.repeat(self.truth[:, None], self.rotations, axis=1)).counts


def answers_of(run: Run, order: Sequence[str] | None = None) -> Answers:
    """The answers of a run, in the order of the file or of these ids of its cases.

    Raises:
        ValueError: naming a case that lacks a rotation, or a view that only some rows have.
    """
    rows: dict[str, dict[int, Prediction]] = {}
    for row in run.predictions:
        rows.setdefault(row.case, {})[row.rotation] = row
    rows = rows if order is None else {case: rows[case] for case in order}
    rotations = max(run.header["rotations"], 1 + max(row.rotation for row in run.predictions))
    for case, found in rows.items():
        if len(found) != rotations:
            lacking = sorted(set(range(rotations)) - found.keys())
            raise ValueError(f"{run.name}: case {case!r} lacks rotation {', '.join(map(str, lacking))}")
    table = [[found[rotation] for rotation in range(rotations)] for found in rows.values()]
    first = [case[0] for case in table]
    return Answers(
        name=run.name,
        cases=tuple(rows),
        codes=tuple(row.code for row in first),
        groups=_groups(first),
        sources=tuple(row.source for row in first),
        truth=np.array([row.answer for row in first]),
        scores=_scores(run, table),
        replies=tuple(tuple(row.text for row in case) for case in table),
        letter_mass=np.array([[row.letter_mass for row in case] for case in table], dtype=float),
    )


def _groups(rows: Sequence[Prediction]) -> tuple[str, ...]:
    patients = [patient_of(row.source, row.group) for row in rows]
    named = Counter(group for _, group in set(patients))
    return tuple(f"{source}/{group}" if named[group] > 1 else group for source, group in patients)


def _scores(run: Run, table: list[list[Prediction]]) -> dict[View, np.ndarray]:
    scores: dict[View, np.ndarray] = {}
    letters = [[row.log_probs for row in case] for case in table]
    if _all_or_none(run, letters, "log_probs"):
        scores["letter"] = np.exp(np.array(letters, dtype=float))
    if "text" in run.header.get("views", ()) or not scores:
        said = np.array([[NONE if row.said is None else row.said for row in case] for case in table])
        scores["text"] = (said[..., None] == np.arange(4)).astype(float)
    options = [[row.option_log_probs for row in case] for case in table]
    if _all_or_none(run, options, "option_log_probs"):
        values = np.array(options, dtype=float)
        weights = np.exp(values - values.max(axis=-1, keepdims=True))
        scores["option"] = weights / weights.sum(axis=-1, keepdims=True)
    return scores


def _all_or_none(run: Run, values: Sequence[Sequence[Four | None]], field: str) -> bool:
    missing = sum(value is None for case in values for value in case)
    total = sum(map(len, values))
    if 0 < missing < total:
        raise ValueError(f"{run.name}: {missing} of {total} rows have no {field}; a view is there for all or for none")
    return missing == 0


def _single(scores: np.ndarray) -> np.ndarray:
    """[..., 4] -> [...] index of the largest; `NONE` where several are equal up to rounding, or all are 0."""
    return np.where(_leading(scores).sum(axis=-1) == 1, scores.argmax(axis=-1), NONE)


def _leading(scores: np.ndarray) -> np.ndarray:
    """[..., 4] -> [..., 4] whether an option is equal to the largest up to rounding; none where all are 0."""
    best = scores.max(axis=-1, keepdims=True)
    return np.asarray((scores >= best - SAME) & (best > 0))
