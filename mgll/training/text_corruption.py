"""Texts made worse on purpose, to measure how training copes: wrong or missing (Tables 8 and 37), of mixed granularity (Table 38).

What happens to a text is a function of the records and the seed alone. Images, groups and labels stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mgll.manifest.records import Record
from mgll.settings import Half

Texts = tuple[str, ...]


def corrupt_texts(
    records: Sequence[Record],
    wrong: float = 0.0,
    missing: float = 0.0,
    granularity: Mapping[str, Half] | None = None,
    seed: int = 0,
) -> Iterable[Record]:
    """The records with the texts of some levels taken away or exchanged; the records themselves if nothing is to be changed.

    The unit is one level of one image with all its texts (one field of the paper's radiographs).

    Args:
        records: the records of one split.
        wrong: share of the units that get another image's texts of the same level. Texts are drawn in proportion to how often
            they occur, and a unit never gets its own texts again. A level at which all images have the same texts has no wrong
            text; it is left as it is and not counted.
        missing: share of the units that are taken away; none of them is also a wrong one.
        granularity: level -> the half of the images that keeps it, `A`, `B`, both (`AB`) or `none`; levels not named are kept.
        seed: seed of the halves and of everything that is drawn.

    Raises:
        ValueError: for shares that are not in 0..1 or add up to more than 1, or a level that no record has.
    """
    if min(wrong, missing) < 0 or wrong + missing > 1:
        raise ValueError(f"wrong_texts {wrong} and missing_texts {missing} must be in 0..1 and add up to 1 at most")
    if not (wrong or missing or granularity):
        return records
    table = _Table(records)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(38,)))
    table.halve(granularity or {}, random)
    table.exchange_and_remove(wrong, missing, random)
    return (table.changed(row, record) for row, record in enumerate(records))


class _Table:
    """Which texts each record has at each level, as numbers.

    Attributes:
        levels: names of the levels.
        texts: for each level, its distinct tuples of texts.
        held: index of each record's tuple in `texts`, -1 where the record lacks the level [levels, records].
    """

    def __init__(self, records: Sequence[Record]) -> None:
        index: dict[str, dict[Texts, int]] = {}
        held: dict[str, np.ndarray] = {}
        for row, record in enumerate(records):
            for level, own in record.texts.items():
                if own:
                    if level not in index:
                        index[level], held[level] = {}, np.full(len(records), -1)
                    held[level][row] = index[level].setdefault(own, len(index[level]))
        self.levels, self.texts = list(index), [list(distinct) for distinct in index.values()]
        self.held = np.array(list(held.values())).reshape(len(index), len(records))

    def halve(self, granularity: Mapping[str, Half], random: np.random.Generator) -> None:
        if unknown := sorted(set(granularity) - set(self.levels)):
            raise ValueError(
                f"granularity: no image has level {', '.join(unknown)}; there are {', '.join(self.levels)}"
            )
        count = self.held.shape[1]
        in_a = random.permutation(count) < count // 2
        for level, half in granularity.items():
            keeps = {"A": in_a, "B": ~in_a, "AB": in_a | ~in_a, "none": in_a & ~in_a}[half]
            self.held[self.levels.index(level), ~keeps] = -1

    def exchange_and_remove(self, wrong: float, missing: float, random: np.random.Generator) -> None:
        """Exchange and remove exact shares of the units, drawn over all levels together."""
        before = self.held.copy()
        level, row = np.nonzero(before >= 0)
        varied = np.array([len(np.unique(own[own >= 0])) > 1 for own in before], dtype=bool)
        order = random.permutation(len(row))
        exchangeable = order[varied[level[order]]]
        exchanged = exchangeable[: round(wrong * len(exchangeable))]
        for number in range(len(self.levels)):
            chosen = row[exchanged[level[exchanged] == number]]
            self.held[number, chosen] = _others(before[number], chosen, random)
        removed = order[~np.isin(order, exchanged)][: round(missing * len(order))]
        self.held[level[removed], row[removed]] = -1

    def changed(self, row: int, record: Record) -> Record:
        own = dict(zip(self.levels, self.held[:, row].tolist(), strict=True))
        texts = {
            level: self.texts[self.levels.index(level)][own[level]] for level in record.texts if own.get(level, -1) >= 0
        }
        return record if texts == record.texts else record.model_copy(update={"texts": texts})


def _others(held: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each of `rows` a value that other records hold and this row does not, drawn in proportion to how often it occurs."""
    values = np.sort(held[held >= 0])
    first, last = np.searchsorted(values, held[rows], "left"), np.searchsorted(values, held[rows], "right")
    place = random.integers(0, len(values) - (last - first))
    return values[np.where(place >= first, place + last - first, place)]
