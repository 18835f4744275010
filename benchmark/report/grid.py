"""Numbers of a grid of hosts and towers: each tower in each host over all seeds, and what it changes from the untouched host.

Seeds and patients are both random (`benchmark.stats.seeds`). With one seed a number is about one set of weights, its interval takes
patients alone as random, and no p is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np

from benchmark.cases.case import Case
from benchmark.cases.floor import Rule, floors, questions_of
from benchmark.cases.images import Shown
from benchmark.predictions.answers import answers_of
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, check_complete
from benchmark.stats.numbers import Number
from benchmark.stats.seeds import OverSeeds, corrected, method_difference, method_number
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: Largest difference of two probabilities that still counts as none: that of summing in another order.
SAME = 1e-5


@dataclass(frozen=True)
class Entry:
    """What a cell of the grid came to: its runs by the images shown (`own` at least), or why there are none."""

    host: str
    tower: str
    seed: int
    runs: Mapping[Shown, Run]
    failure: str | None = None


#: What is said of a cell that is still to be made.
NOT_FINISHED = "not finished"


@dataclass(frozen=True)
class GridRow:
    """One tower in one host.

    Attributes:
        host: name of the host.
        tower: name of the tower.
        seeds: those that are finished.
        failures: seed -> what went wrong, or `NOT_FINISHED`.
        numbers: name of a number -> it, over the seeds; empty where none is finished.
        changes: name of a number -> this tower less the untouched host; empty for that itself, for its own tower, which may change
            nothing, and where a side has no run.
        controls: images shown -> overall accuracy, mean over the seeds.
        p: of the change in overall accuracy, NaN where a side has one seed.
        p_holm: the same, corrected over the hosts of this tower.
    """

    host: str
    tower: str
    seeds: tuple[int, ...]
    failures: Mapping[int, str]
    numbers: Mapping[str, OverSeeds] = field(default_factory=dict)
    changes: Mapping[str, OverSeeds] = field(default_factory=dict)
    controls: Mapping[Shown, float] = field(default_factory=dict)
    p: float = nan
    p_holm: float = nan

    def missing(self, seed: int | None = None) -> str:
        """What stands in place of the numbers of a seed, or of all where none is finished."""
        said = set(self.failures.values()) if seed is None else {self.failures[seed]}
        return NOT_FINISHED if said == {NOT_FINISHED} else "failed"


@dataclass(frozen=True)
class Grid:
    """A whole table.

    Attributes:
        rows: host by host, the untouched one first.
        untouched: name of the untouched host's rows.
        own: name of the rows in which a host's own tower was grafted again.
        changed: host whose own tower was grafted again -> what differs from the untouched host; empty where nothing does.
        pairs: (host, tower) -> overall accuracy of the last tower less that of this one, for every other graft.
        questions: number of questions.
        patients: number of patients or eyes.
        codes: classes that are the answer of a question.
        table: the table that they are of.
        floors: rule that does not look -> its overall accuracy.
    """

    rows: tuple[GridRow, ...]
    untouched: str
    own: str
    changed: Mapping[str, str]
    pairs: Mapping[tuple[str, str], OverSeeds]
    questions: int
    patients: int
    codes: tuple[str, ...]
    floors: Mapping[Rule, float]
    table: ClassTable = FUNDUS

    @property
    def hosts(self) -> list[str]:
        """The hosts in order."""
        return list(dict.fromkeys(row.host for row in self.rows))

    @property
    def grafts(self) -> list[str]:
        """The towers in order, without the untouched host's and its own grafted again."""
        return [t for t in dict.fromkeys(row.tower for row in self.rows) if t not in (self.untouched, self.own)]

    def row(self, host: str, tower: str) -> GridRow:
        """The row of a tower in a host."""
        return next(row for row in self.rows if (row.host, row.tower) == (host, tower))


def build_grid(
    cases: Sequence[Case], entries: Sequence[Entry], untouched: str, own: str, training: Sequence[Case] | None = None
) -> Grid:
    """Compute a grid's numbers.

    Args:
        cases: what all runs answered.
        entries: the cells, in the order in which rows are to stand.
        untouched: name of the tower of the untouched hosts.
        own: name of the tower that is the host's own, grafted again.
        training: questions that the floors learn from.

    Raises:
        ComparisonError: if a run is not of these cases, or not complete.
    """
    questions, order = questions_of(cases), [case.id for case in cases]
    numbers = (*questions.totals(), *(questions.accuracy(code) for code in questions.codes))
    rows, picked = [], {}
    for host, tower in dict.fromkeys((entry.host, entry.tower) for entry in entries):
        of_row = [entry for entry in entries if (entry.host, entry.tower) == (host, tower)]
        done = [entry for entry in of_row if entry.failure is None]
        for run in (run for entry in done for run in entry.runs.values()):
            _check(run, cases)
        picked[host, tower] = [_picked(entry.runs["own"], order) for entry in done]
        rows.append(
            GridRow(
                host,
                tower,
                tuple(entry.seed for entry in done),
                {entry.seed: entry.failure for entry in of_row if entry.failure is not None},
                {number.name: method_number(number, questions, picked[host, tower]) for number in numbers if done},
                controls=_controls(numbers[0], done, order),
            )
        )
    for index, row in enumerate(rows):
        sides = picked.get((row.host, untouched), []), picked[row.host, row.tower]
        if row.tower not in (untouched, own) and all(sides):
            changes = {number.name: method_difference(number, questions, *sides) for number in numbers}
            p = changes["overall"].p if min(map(len, sides)) > 1 else nan
            rows[index] = replace(row, changes=changes, p=p)
    grafts = [tower for _, tower in picked if tower not in (untouched, own)]
    sides_of = {
        (h, t): (picked[h, t], picked[h, grafts[-1]]) for h, t in picked if t in grafts[:-1] and t != grafts[-1]
    }
    return Grid(
        rows=tuple(_with_holm(rows)),
        untouched=untouched,
        own=own,
        changed=_changed(entries, untouched, own, order),
        pairs={
            place: method_difference(numbers[0], questions, *sides) for place, sides in sides_of.items() if all(sides)
        },
        questions=len(cases),
        patients=len(set(questions.groups)),
        codes=tuple(questions.codes),
        floors=floors(cases, training).of(numbers[0]),
        table=cases[0].table if cases else FUNDUS,
    )


def _check(run: Run, cases: Sequence[Case]) -> None:
    if cases_sha256(cases) != run.header["cases_sha256"]:
        raise ComparisonError(f"{run.name!r} answered other cases than the {len(cases)} given")
    check_complete(run, cases)


def _picked(run: Run, order: Sequence[str]) -> np.ndarray:
    answers = answers_of(run, order)
    return np.asarray(answers.shares(answers.primary))


def _controls(overall: Number, done: Sequence[Entry], order: Sequence[str]) -> dict[Shown, float]:
    shown = [name for name in (done[0].runs if done else ()) if name != "own"]
    return {name: float(np.mean([overall.value(_picked(entry.runs[name], order)) for entry in done])) for name in shown}


def _with_holm(rows: Sequence[GridRow]) -> list[GridRow]:
    by_tower: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_tower.setdefault(row.tower, []).append(index)
    found = list(rows)
    for indices in by_tower.values():
        for index, p in zip(indices, corrected([rows[i].p for i in indices]), strict=True):
            found[index] = replace(rows[index], p_holm=float(p))
    return found


def _changed(entries: Sequence[Entry], untouched: str, own: str, order: Sequence[str]) -> dict[str, str]:
    """What differs where a host's own tower was grafted again, of every image that was shown."""
    found = {}
    for entry in entries:
        before = next((e for e in entries if (e.host, e.tower, e.seed) == (entry.host, untouched, entry.seed)), None)
        if entry.tower == own and entry.failure is None and before and before.failure is None:
            found[entry.host] = "; ".join(
                f"{shown} images: {said}"
                for shown, run in entry.runs.items()
                if (said := _difference(before.runs[shown], run, order))
            )
    return found


def _difference(before: Run, after: Run, order: Sequence[str]) -> str:
    first, second = answers_of(before, order), answers_of(after, order)
    odd = int((_picked(before, order) != _picked(after, order)).any(axis=1).sum())
    largest = max(float(np.abs(first.scores[view] - second.scores[view]).max()) for view in first.scores)
    return f"{odd} answers differ, probabilities by up to {largest:.2g}" if odd or largest > SAME else ""
