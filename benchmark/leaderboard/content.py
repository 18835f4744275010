"""What a leaderboard says: for every way of reading, each method's macro AUC, and how far it lies behind the best.

A method is one tower, or several that were pretrained alike under different seeds. With several, seeds and patients are both taken
as random (`benchmark.stats.seeds`); with one, only patients are, and the difference is about these weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import nan

import numpy as np
from scipy.stats import studentized_range

from benchmark.stats.bootstrap import Estimate
from benchmark.stats.seeds import OverSeeds, corrected, difference_over_seeds, number_over_seeds
from mgll.evaluation.comparing import Side, mean_of, side_of
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.linear_readings import FEW, LEFT_OUT, PROBE
from mgll.evaluation.metrics import Summary
from mgll.evaluation.reading import Reading
from mgll.evaluation.zero_shot import Retrieval
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: What is averaged over all left-out sources.
ALL_SOURCES = f"{LEFT_OUT}, mean over sources"
#: Numbers of a reading beside its macro AUC.
BESIDE = tuple(number.name for number in fields(Summary) if number.name not in ("multi_class", "auc"))


@dataclass(frozen=True)
class Entry:
    """One method on one manifest in one way of reading.

    Attributes:
        manifest: what the manifest is called.
        reading: `probe`, `k-NN`, `few labels 1 %` (a mean over draws), `left out, mean over sources`, and so on.
        method: what the method is called.
        found: its macro AUC.
        beside: mean over runs of the other numbers, by their names in `mgll.evaluation.metrics.Summary`.
        rank: 1 is the highest macro AUC of this manifest and reading.
        behind: macro AUC less that of the best; of the best itself 0 with an interval of no width.
        p: of that difference, corrected over the methods (Holm); NaN for the best.
    """

    manifest: str
    reading: str
    method: str
    found: OverSeeds
    beside: Mapping[str, float]
    rank: int
    behind: Estimate
    p: float


@dataclass(frozen=True)
class ClassEntry:
    """One method's AUC of one class on one manifest in one way of reading, and on how many images of how many it was read."""

    manifest: str
    reading: str
    method: str
    label: str
    auc: Estimate
    positives: int
    images: int


@dataclass(frozen=True)
class Note:
    """What was skipped or noted on one manifest, and the methods of which it is said."""

    manifest: str
    methods: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Board:
    """All of it.

    Attributes:
        entries: by manifest and reading, the best first.
        classes: by manifest, reading, class and method, for readings that are not means of others.
        ranks: method -> mean rank over all manifests and readings.
        left_out: manifest -> class code -> why the probe did not read it.
        said: what was skipped or noted.
        digests: method -> SHA-256 of each tower.
        strengths: manifest -> method -> the probe's strength of each run.
        found_by_text: manifest -> method -> level -> retrieval, a mean over runs; of towers that bring their text side.
        class_tables: manifest -> the table of its classes, which has their names; that of the fundus where there is none.
        read: manifest -> how many images, patients and classes the probe was read on.
    """

    entries: tuple[Entry, ...]
    classes: tuple[ClassEntry, ...]
    ranks: Mapping[str, float]
    left_out: Mapping[str, Mapping[str, str]]
    said: tuple[Note, ...]
    digests: Mapping[str, tuple[str, ...]]
    strengths: Mapping[str, Mapping[str, tuple[float, ...]]]
    found_by_text: Mapping[str, Mapping[str, Mapping[str, Retrieval]]]
    class_tables: Mapping[str, ClassTable] = field(default_factory=dict)
    read: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def of(self, manifest: str, reading: str) -> list[Entry]:
        """The entries of one manifest and reading, the best first."""
        return [entry for entry in self.entries if (entry.manifest, entry.reading) == (manifest, reading)]

    def class_table(self, manifest: str) -> ClassTable:
        """The table that names the classes of a manifest."""
        return self.class_tables.get(manifest, FUNDUS)


#: Manifest -> method -> its runs.
Runs = Mapping[str, Mapping[str, Sequence[Evaluation]]]


def build_board(runs: Runs, class_tables: Mapping[str, ClassTable] | None = None) -> Board:
    """The board of some evaluations.

    Args:
        runs: manifest -> method -> an evaluation of each of its towers.
        class_tables: manifest -> the table of its classes; that of the fundus where none is given.

    Raises:
        ValueError: if the evaluations of a manifest were not read on the same images and classes.
    """
    entries = tuple(entry for manifest, methods in runs.items() for entry in _entries(manifest, methods))
    methods = list(dict.fromkeys(method for own in runs.values() for method in own))
    ranks = {
        method: float(np.mean([float(entry.rank) for entry in entries if entry.method == method] or [nan]))
        for method in methods
    }
    every = [
        (manifest, method, run) for manifest, own in runs.items() for method, towers in own.items() for run in towers
    ]
    said: dict[tuple[str, str], dict[str, None]] = {}
    for manifest, method, run in every:
        for sentence in (*run.skipped, *(f"{r.name}: {note}" for r in run.readings.values() for note in r.notes)):
            said.setdefault((manifest, sentence), {})[method] = None
    return Board(
        entries,
        tuple(entry for manifest, own in runs.items() for entry in _class_entries(manifest, own)),
        ranks,
        {manifest: dict(run["probe"].left_out) for manifest, _, run in reversed(every)},
        tuple(Note(manifest, tuple(own), sentence) for (manifest, sentence), own in said.items()),
        {method: tuple(dict.fromkeys(run.digest for _, own, run in every if own == method)) for method in methods},
        {
            manifest: {method: tuple(run.strength for run in towers) for method, towers in own.items()}
            for manifest, own in runs.items()
        },
        {
            manifest: {method: found for method, towers in own.items() if (found := _retrieval(towers))}
            for manifest, own in runs.items()
        },
        dict(class_tables or {}),
        {manifest: _counts(run[PROBE]) for manifest, _, run in every},
    )


def _counts(reading: Reading) -> tuple[int, int, int]:
    """Images, patients and classes of a reading."""
    return len(reading.images), len(set(reading.patients)), len(reading.classes)


def _retrieval(runs: Sequence[Evaluation]) -> dict[str, Retrieval]:
    """Level -> the mean over runs of what retrieval found; of levels that every run has."""
    levels = [level for level in runs[0].retrieval if all(level in run.retrieval for run in runs)]
    return {level: _mean_retrieval([run.retrieval[level] for run in runs]) for level in levels}


def _mean_retrieval(runs: Sequence[Retrieval]) -> Retrieval:
    first = runs[0]
    shares = [
        {k: float(np.mean([getattr(run, name)[k] for run in runs])) for k in getattr(first, name)}
        for name in ("image_to_text", "text_to_image")
    ]
    image_rank, text_rank = np.mean([run.median_ranks for run in runs], axis=0).tolist()
    return replace(first, image_to_text=shares[0], text_to_image=shares[1], median_ranks=(image_rank, text_rank))


def critical_difference(methods: int, sets: int) -> float:
    """How far the mean ranks of two methods over independent data sets must lie apart to differ at 5 % (Nemenyi; Demsar 2006)."""
    return float(
        studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2) * np.sqrt(methods * (methods + 1) / (6 * sets))
    )


def _entries(manifest: str, methods: Mapping[str, Sequence[Evaluation]]) -> list[Entry]:
    found: list[Entry] = []
    for reading in dict.fromkeys(name for towers in methods.values() for run in towers for name in _groups(run)):
        groups = {
            method: [_groups(run)[reading] for run in towers]
            for method, towers in methods.items()
            if all(reading in _groups(run) for run in towers)
        }
        _refuse_other_images(manifest, reading, groups)
        sides = {method: _side(reading, own) for method, own in groups.items()}
        numbers = {method: number_over_seeds(side.values, side.influence) for method, side in sides.items()}
        order = sorted(numbers, key=lambda method: -numbers[method].estimate.value)
        gaps = {method: _gap(sides[order[0]], sides[method]) for method in order[1:]}
        p = dict(zip(gaps, corrected([gap.p for gap in gaps.values()]), strict=True))
        found += [
            Entry(
                manifest,
                reading,
                method,
                numbers[method],
                _beside([one for own in groups[method] for one in own]),
                rank,
                gaps[method].estimate if method in gaps else Estimate(0.0, 0.0, 0.0),
                float(p.get(method, nan)),
            )
            for rank, method in enumerate(order, 1)
        ]
    return found


def _groups(run: Evaluation) -> dict[str, list[Reading]]:
    """Name of a way of reading -> the readings of one run over which it is the mean."""
    found: dict[str, list[Reading]] = {}
    for name, reading in run.readings.items():
        found.setdefault(name.partition(", draw")[0] if name.startswith(FEW) else name, []).append(reading)
    if sources := list(run.named(LEFT_OUT)):
        found[ALL_SOURCES] = sources
    return found


def _side(reading: str, runs: Sequence[Sequence[Reading]]) -> Side:
    """The numbers of the runs, each a mean over one or more readings."""
    sides = [side_of(own) for own in zip(*runs, strict=True)]
    if reading == ALL_SOURCES:
        return mean_of(sides)
    return Side(np.mean([side.values for side in sides], axis=0), np.mean([side.influence for side in sides], axis=0))


def _gap(best: Side, other: Side) -> OverSeeds:
    return difference_over_seeds([best.values, other.values], [best.influence, other.influence])


def _beside(readings: Sequence[Reading]) -> dict[str, float]:
    summaries = [reading.summary() for reading in readings]
    return {name: float(np.mean([getattr(summary, name) for summary in summaries])) for name in BESIDE}


def _refuse_other_images(manifest: str, reading: str, groups: Mapping[str, Sequence[Sequence[Reading]]]) -> None:
    read = {tuple((one.images, one.classes) for one in own) for runs in groups.values() for own in runs}
    if len(read) > 1:
        raise ValueError(
            f"{manifest}, {reading}: towers were not read on the same images and classes; evaluate them with the same settings"
        )


def _class_entries(manifest: str, methods: Mapping[str, Sequence[Evaluation]]) -> list[ClassEntry]:
    found = []
    for method, runs in methods.items():
        for name, first in runs[0].readings.items():
            if name.startswith(FEW):
                continue
            for score in first.by_class():
                alone = [run[name].among(name, classes={score.label}) for run in runs]
                side = side_of([reading for reading in alone if reading is not None])
                estimate = number_over_seeds(side.values, side.influence).estimate
                found.append(
                    ClassEntry(manifest, name, method, score.label, estimate, score.positives, len(first.images))
                )
    return found
