"""The paper's own results as reference: Tables 2 and 27 to 34, read back into whole numbers of cases.

`paper_tables.csv` holds what is printed, digit by digit; the classes' numbers of cases are Table 14's (`mgll.vocabulary`). An
accuracy in percent of a known number of cases gives the number answered rightly, so that each row gets intervals and differences.

What recomputes: the overall accuracy of all sixteen rows, from whole counts, to both decimals; their ten-class averages, as means
of the ten *printed* percentages. Three cells are no whole number of cases (`misprints`); two averages inherit their error.

What to know before comparing a run with a row: the paper's options let class frequency alone score what `paper_floor` says. Its
headline gains are averages over ten classes, one of them of 7 cases: +34.1 for LLaVA-Med is +20.8 over all cases. And only counts
are known, not which cases, so its rows can't be tested as pairs (`paper_change` gives the range of that p).

    python -m benchmark.paper
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from math import sqrt
from types import MappingProxyType
from typing import Literal

from benchmark.cases.floor import Floor, expected_floor
from benchmark.stats.significance import Estimate, wilson
from mgll.vocabulary.diseases import TEN_CLASSES, benchmark_classes, diseases, paper_names

Tower = Literal["original", "mgll"]

#: Our name of a host (`mllm_adapters.hosts.registry`) -> the paper's. Other hosts have no row.
PAPER_HOSTS = MappingProxyType(
    {
        "instructblip": "InstructBLIP",
        "mini-gemini": "Mini-Gemini",
        "qwen-vl": "Qwen-VL",
        "internvl": "InternVL",
        "llava": "LLaVA",
        "llava-med": "LLaVA-Med",
        "med-flamingo": "Med-Flamingo",
        "janus-pro": "Janus-Pro",
    }
)


@dataclass(frozen=True)
class Cell:
    """Accuracy on one class.

    Attributes:
        code: class code.
        cases: number of cases of the class (Table 14).
        printed: accuracy in percent, as printed.
    """

    code: str
    cases: int
    printed: Decimal

    @property
    def correct(self) -> int:
        """The whole number of cases whose percentage is nearest to the printed one."""
        return int((self.printed * self.cases / 100).quantize(Decimal(1), ROUND_HALF_UP))

    @property
    def recomputed(self) -> Decimal:
        """Percentage that the whole number of right answers (`correct`) gives, to two decimals."""
        return _percent(self.correct, self.cases)

    @property
    def misprinted(self) -> bool:
        """Whether no whole number of cases has the printed percentage."""
        return self.recomputed != self.printed


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables: one host with one tower.

    Attributes:
        table: number of the table with all 25 classes (27 to 34).
        host: the paper's name.
        tower: the host's own, or MGLL's.
        cells: the 25 classes in the order of Table 14.
        overall: accuracy over all cases in percent, as printed there.
        ten_class: average over ten classes in percent, as printed in Table 2.
        overall_gain: printed beside `overall`, in points over the original tower; None for that tower itself.
        ten_class_gain: printed beside `ten_class`; likewise.
    """

    table: int
    host: str
    tower: Tower
    cells: tuple[Cell, ...]
    overall: Decimal
    ten_class: Decimal
    overall_gain: Decimal | None
    ten_class_gain: Decimal | None

    @property
    def n(self) -> int:
        """Number of cases."""
        return sum(cell.cases for cell in self.cells)

    @property
    def correct(self) -> int:
        """Number of cases answered rightly."""
        return sum(cell.correct for cell in self.cells)

    @property
    def ten(self) -> tuple[Cell, ...]:
        """The classes of Table 2."""
        return tuple(cell for cell in self.cells if cell.code in TEN_CLASSES)


@dataclass(frozen=True)
class Recomputed:
    """A row's averages, computed again from its cells, in percent to two decimals.

    Attributes:
        overall: from whole counts.
        ten_class: mean of the ten printed percentages, as the paper has it.
        ten_class_of_counts: mean of the ten percentages of whole counts; differs where one of the ten is misprinted.
        misprints: cells that are no whole number of cases.
    """

    overall: Decimal
    ten_class: Decimal
    ten_class_of_counts: Decimal
    misprints: tuple[Cell, ...]


@dataclass(frozen=True)
class RowSummary:
    """A row's accuracies from whole counts, as fractions, with 95 % intervals as if cases were independent.

    Attributes:
        overall: Wilson interval.
        ten_class, macro: unweighted means over ten and all 25 classes; the interval joins the classes' Wilson intervals
            (MOVER, Zou and Donner 2008), for which the classes' counts are enough.
        classes: class code -> accuracy with its Wilson interval.
    """

    overall: Estimate
    ten_class: Estimate
    macro: Estimate
    classes: Mapping[str, Estimate]


@dataclass(frozen=True)
class PaperChange:
    """MGLL's tower minus the original one in one host, as fractions.

    Attributes:
        before, after: the two rows.
        overall, ten_class, macro: differences with Newcombe's 95 % interval for *independent* samples. Both rows answered the
            same cases, so a paired interval would be narrower; it can't be had from counts.
        lowest_p, highest_p: exact McNemar p if the two overlap as much, and as little, as the classes' counts allow.
    """

    before: PaperRow
    after: PaperRow
    overall: Estimate
    ten_class: Estimate
    macro: Estimate
    lowest_p: float
    highest_p: float


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """The sixteen rows, in the order of the tables, the original tower first."""
    with (files("benchmark.paper") / "paper_tables.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    table2 = {(line["host"], line["tower"]): line for line in lines if line["table"] == "2"}
    return tuple(_row(line, table2[line["host"], line["tower"]]) for line in lines if line["table"] != "2")


def paper_row(host: str, tower: Tower) -> PaperRow | None:
    """The paper's row for a host by our name of it (`llava-med`); None where the paper has none."""
    name = PAPER_HOSTS.get(host)
    return next((row for row in paper_rows() if (row.host, row.tower) == (name, tower)), None)


def paper_change(host: str) -> PaperChange | None:
    """What MGLL's tower changed according to the paper, by our name of the host; None where the paper has no row."""
    before, after = paper_row(host, "original"), paper_row(host, "mgll")
    if before is None or after is None:
        return None
    old, new = summarise_row(before), summarise_row(after)
    pairs = list(zip(before.cells, after.cells, strict=True))
    broken = sum(max(b.correct - a.correct, 0) for b, a in pairs)
    fixed = sum(max(a.correct - b.correct, 0) for b, a in pairs)
    # A class where both are right on as different cases as can be: so many pairs more, one each way.
    swapped = sum(min(b.correct, a.correct, b.cases - b.correct, a.cases - a.correct) for b, a in pairs)
    return PaperChange(
        before=before,
        after=after,
        overall=_difference(old.overall, new.overall),
        ten_class=_difference(old.ten_class, new.ten_class),
        macro=_difference(old.macro, new.macro),
        lowest_p=_mcnemar_p(broken, fixed),
        highest_p=_mcnemar_p(broken + swapped, fixed + swapped),
    )


def recompute(row: PaperRow) -> Recomputed:
    """A row's overall accuracy and ten-class average from its cells."""
    exact = [Decimal(100 * cell.correct) / cell.cases for cell in row.ten]
    return Recomputed(
        overall=_percent(row.correct, row.n),
        ten_class=_two_decimals(sum((cell.printed for cell in row.ten), Decimal(0)) / 10),
        ten_class_of_counts=_two_decimals(sum(exact, Decimal(0)) / 10),
        misprints=tuple(cell for cell in row.cells if cell.misprinted),
    )


def misprints() -> tuple[tuple[PaperRow, Cell], ...]:
    """Every cell of the sixteen rows that is no whole number of cases, with its row. The overall accuracy confirms the counts."""
    return tuple((row, cell) for row in paper_rows() for cell in recompute(row).misprints)


def summarise_row(row: PaperRow) -> RowSummary:
    """Accuracies of one row with their intervals."""
    classes = {cell.code: wilson(cell.correct, cell.cases) for cell in row.cells}
    return RowSummary(
        overall=wilson(row.correct, row.n),
        ten_class=_mean([classes[code] for code in TEN_CLASSES]),
        macro=_mean(list(classes.values())),
        classes=MappingProxyType(classes),
    )


def paper_floor(names: Literal[25, 50] = 25) -> Floor:
    """Expected score of class frequency alone on the paper's cases.

    Args:
        names: how many distractors were drawn from: the 25 classes, or all 50 names but the grades of a disease.
    """
    fifty = [code for code in paper_names() if diseases()[code].cases or not diseases()[code].implies]
    return expected_floor(
        {disease.code: disease.cases for disease in benchmark_classes()}, fifty if names == 50 else ()
    )


def _row(line: Mapping[str, str], table2: Mapping[str, str]) -> PaperRow:
    return PaperRow(
        table=int(line["table"]),
        host=line["host"],
        tower="mgll" if line["tower"] == "mgll" else "original",
        cells=tuple(Cell(d.code, d.cases, Decimal(line[d.code])) for d in benchmark_classes()),
        overall=Decimal(line["overall"]),
        ten_class=Decimal(table2["average"]),
        overall_gain=Decimal(line["change"]) if line["change"] else None,
        ten_class_gain=Decimal(table2["change"]) if table2["change"] else None,
    )


def _percent(correct: int, cases: int) -> Decimal:
    return _two_decimals(Decimal(100 * correct) / cases)


def _two_decimals(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _mean(classes: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of independent proportions; the distances to the ends of their intervals add as squares (MOVER)."""
    value = sum(each.value for each in classes) / len(classes)
    below = sqrt(sum((each.value - each.low) ** 2 for each in classes)) / len(classes)
    above = sqrt(sum((each.high - each.value) ** 2 for each in classes)) / len(classes)
    return Estimate(value, value - below, value + above)


def _difference(before: Estimate, after: Estimate) -> Estimate:
    """Newcombe's hybrid interval (1998, method 10), which for two proportions is statsmodels' `newcomb`."""
    value = after.value - before.value
    below = sqrt((after.value - after.low) ** 2 + (before.high - before.value) ** 2)
    above = sqrt((after.high - after.value) ** 2 + (before.value - before.low) ** 2)
    return Estimate(value, value - below, value + above)


def _mcnemar_p(only_before: int, only_after: int) -> float:
    # here, because scipy takes a moment to import
    from scipy.stats import binomtest

    discordant = only_before + only_after
    return float(binomtest(only_before, discordant).pvalue) if discordant else 1.0
