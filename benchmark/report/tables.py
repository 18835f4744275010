"""The report's tables: lines of numbers by class, total and source, and the form that every table takes before it is printed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple

import numpy as np

from benchmark.cases.floor import RULE_NAMES, Rule
from benchmark.report.content import Report
from benchmark.report.number_format import class_name, interval, p_number, percent, points, points_interval
from benchmark.report.summary import Change, Flips, RunSummary, Share
from benchmark.stats.bootstrap import Estimate

OVERALL = "Overall"

#: Names of averages where there is little room.
NARROW_NAMES = {
    "Macro average": "Macro",
    "Ten-class average": "Ten classes",
    "Ten-class informedness": "Inf., ten",
}


class Cell(NamedTuple):
    """What stands in a cell: the figure and, smaller, its interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table in words.

    Attributes:
        columns: headings.
        rows: the lines.
        strong: numbers of the lines that stand out.
        labels: so many columns at the left name a line; the others hold figures.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()
    labels: int = 1


def accuracy_cell(share: Share | Estimate | None) -> Cell:
    """An accuracy with its interval; a dash where there is none."""
    if share is None:
        return Cell("–")
    value = share.accuracy if isinstance(share, Share) else share.value
    return Cell(percent(value), "" if math.isnan(share.low) else interval(share))


def change_cell(change: Estimate | None) -> Cell:
    """A difference in points with its interval; empty where there is none."""
    if change is None:
        return Cell("")
    return Cell(points(change.value), "" if math.isnan(change.low) else points_interval(change))


@dataclass(frozen=True)
class Line:
    """One line of the main table.

    Attributes:
        part: what the line is about.
        code: class code or source; empty for totals.
        name: what to call it.
        n: number of cases; of an average, the number of classes.
        floors: what rules that do not look score.
        before: accuracy before with its interval; None in the report of one run.
        after: accuracy (after) with its interval.
        change: after minus before, with its interval.
        flips: answers fixed and broken; None for averages.
        informedness: of a class, after; None elsewhere.
        informedness_change: of a class, after minus before; None elsewhere.
        p: of that difference, corrected over the classes; None elsewhere.
    """

    part: Literal["class", "total", "source"]
    code: str
    name: str
    n: int
    floors: Mapping[Rule, float]
    before: Estimate | None
    after: Estimate
    change: Estimate | None
    flips: Flips | None
    informedness: Estimate | None = None
    informedness_change: Estimate | None = None
    p: float | None = None


def class_lines(report: Report) -> list[Line]:
    """One line a class, the most frequent first."""
    before, change = report.before, report.change
    return [
        Line(
            "class",
            code,
            class_name(code, report.table),
            share.n,
            report.floors.of(report.questions.accuracy(code)),
            _estimate(before.classes[code]) if before else None,
            _estimate(share),
            change.class_changes[code] if change else None,
            change.classes[code] if change else None,
            report.after.class_informedness[code],
            change.class_informedness[code] if change else None,
            change.class_p[code] if change else None,
        )
        for code, share in report.after.classes.items()
    ]


def source_lines(report: Report) -> list[Line]:
    """One line a data set; none where all images come from one."""
    before, change, sources = report.before, report.change, report.after.sources
    if len(sources) < 2:
        return []
    named = np.asarray([case.source for case in report.cases])
    return [
        Line(
            "source",
            name,
            name or "not stated",
            share.n,
            report.floors.of(report.questions.overall(named == name)),
            _estimate(before.sources[name]) if before else None,
            _estimate(share),
            change.source_changes[name] if change else None,
            change.sources[name] if change else None,
        )
        for name, share in sources.items()
    ]


def total_lines(report: Report) -> list[Line]:
    """Overall, macro and ten-class average, and the averages of informedness, which a liking for names can't move."""
    before, change, after = report.before, report.change, report.after
    n_classes, n_ten = len(after.classes), len(after.ten_present)
    names = {
        "overall": (OVERALL, after.overall.n),
        "macro": ("Macro average", n_classes),
        "ten_class": ("Ten-class average", n_ten),
        "informedness": ("Informedness", n_classes),
        "ten_informedness": ("Ten-class informedness", n_ten),
    }
    lines = []
    for number in report.questions.totals():
        name, n = names[number.name]
        of: Callable[[RunSummary | Change], Share | Estimate] = attrgetter(number.name)
        moved = of(change) if change else None
        lines.append(
            Line(
                "total",
                "",
                name,
                n,
                report.floors.of(number),
                _estimate(of(before)) if before else None,
                _estimate(of(after)),
                moved if isinstance(moved, Estimate) else None,
                change.flips if change and number.name == "overall" else None,
            )
        )
    return lines


def main_table(report: Report) -> Table:
    """Classes, then totals."""
    classes, totals = class_lines(report), total_lines(report)
    strong = frozenset(range(len(classes), len(classes) + len(totals)))
    return Table(_columns(report, "Disease"), tuple(map(_cells, [*classes, *totals])), strong)


def source_table(report: Report) -> Table | None:
    """Table by source of the images; None if all images come from one source."""
    lines = source_lines(report)
    return (
        Table(_columns(report, "Source")[: -2 if report.before else -1], tuple(map(_cells, lines))) if lines else None
    )


def narrow_table(report: Report) -> Table:
    """The main table for a terminal 80 columns wide: class codes, accuracy and interval in one cell, no per-cent signs."""
    classes, totals = class_lines(report), total_lines(report)
    columns = ("class", "n", "f/s/r", *(("before", "after", "change") if report.before else ("accuracy",)))
    strong = frozenset(range(len(classes), len(classes) + len(totals)))
    return Table(columns, tuple(map(_narrow_cells, [*classes, *totals])), strong)


def _columns(report: Report, first: str) -> tuple[str, ...]:
    start = (first, "n", *RULE_NAMES.values())
    if report.before:
        return (*start, "before", "after", "change", "fixed", "broken", "informedness, change", "p (Holm)")
    return (*start, "accuracy", "informedness")


def _cells(line: Line) -> tuple[Cell, ...]:
    cells = [
        Cell(line.name),
        Cell(f"{line.n:,}" if line.part != "total" or line.name == OVERALL else f"{line.n} classes"),
        *(Cell(percent(floor)) for floor in line.floors.values()),
    ]
    cells += [accuracy_cell(estimate) for estimate in (line.before, line.after) if estimate]
    if line.change:
        fixed, broken = (str(line.flips.fixed), str(line.flips.broken)) if line.flips else ("", "")
        cells += [change_cell(line.change), Cell(fixed), Cell(broken)]
        if line.part != "source":
            cells += [change_cell(line.informedness_change), Cell("" if line.p is None else p_number(line.p))]
    elif line.part != "source":
        cells.append(accuracy_cell(line.informedness) if line.informedness else Cell(""))
    return tuple(cells)


def _narrow_cells(line: Line) -> tuple[Cell, ...]:
    floors = "/".join(
        f"{abs(100 * floor):.0f}" if abs(floor) < 5e-3 else f"{100 * floor:.0f}" for floor in line.floors.values()
    )
    texts = [line.code or NARROW_NAMES.get(line.name, line.name), str(line.n), floors]
    for estimate in (line.before, line.after):
        if estimate:
            texts.append(f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}–{100 * estimate.high:.0f}]")
    if line.change:
        texts.append(points(line.change.value))
    return tuple(map(Cell, texts))


def _estimate(share: Share | Estimate) -> Estimate:
    return share if isinstance(share, Estimate) else Estimate(share.accuracy, share.low, share.high)


def rows_of(table: Table) -> Sequence[tuple[str, ...]]:
    """The rows as plain texts, intervals in brackets."""
    return [tuple(f"{cell.text} ({cell.detail})" if cell.detail else cell.text for cell in row) for row in table.rows]
