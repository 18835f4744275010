"""The report's tables: lines of numbers by class, total and source, and the form that every table takes before it is printed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal, NamedTuple

from benchmark.report.content import Report
from benchmark.report.number_format import disease_name, interval, p_number, percent, points, points_interval
from benchmark.report.summary import Change, Flips, RunSummary, Share
from benchmark.stats.bootstrap import Estimate

OVERALL = "Overall"


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
        floor: accuracy from class frequency alone.
        before: accuracy before with its interval; None in the report of one run.
        after: accuracy (after) with its interval.
        change: after minus before; its interval is NaN for single classes.
        flips: answers fixed and broken; None for averages.
        p: of the exact McNemar test within the class, corrected over the classes; None elsewhere.
    """

    part: Literal["class", "total", "source"]
    code: str
    name: str
    n: int
    floor: float
    before: Estimate | None
    after: Estimate
    change: Estimate | None
    flips: Flips | None
    p: float | None = None


def class_lines(report: Report) -> list[Line]:
    """One line a class, the most frequent first."""
    before, change = report.before, report.change
    lines = []
    for code, share in report.after.classes.items():
        line = _share_line(
            "class",
            code,
            disease_name(code),
            report.floor.by_class[code],
            before.classes[code] if before else None,
            share,
            change.classes[code] if change else None,
        )
        lines.append(replace(line, p=change.class_p[code]) if change else line)
    return lines


def source_lines(report: Report) -> list[Line]:
    """One line a data set; none where all images come from one."""
    before, change, sources = report.before, report.change, report.after.sources
    if len(sources) < 2:
        return []
    return [
        _share_line(
            "source",
            name,
            name or "not stated",
            report.source_floors[name],
            before.sources[name] if before else None,
            share,
            change.sources[name] if change else None,
        )
        for name, share in sources.items()
    ]


def total_lines(report: Report) -> list[Line]:
    """Overall (Wilson interval; its change from the bootstrap), macro and ten-class average (bootstrap intervals)."""
    before, change, after, floor = report.before, report.change, report.after, report.floor
    overall = _share_line(
        "total",
        "",
        OVERALL,
        floor.overall,
        before.overall if before else None,
        after.overall,
        change.flips if change else None,
    )

    def average(name: str, n: int, floor: float, of: Callable[[RunSummary | Change], Estimate]) -> Line:
        return Line(
            "total", "", name, n, floor, of(before) if before else None, of(after), of(change) if change else None, None
        )

    lines = [replace(overall, change=change.overall if change else None)]
    lines.append(average("Macro average", len(after.classes), floor.macro, attrgetter("macro")))
    if after.ten_present:
        lines.append(average("Ten-class average", len(after.ten_present), floor.ten_class, attrgetter("ten_class")))
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
        Table(_columns(report, "Source")[: 8 if report.before else None], tuple(map(_cells, lines))) if lines else None
    )


def narrow_table(report: Report) -> Table:
    """The main table for a terminal 80 columns wide: class codes, accuracy and interval in one cell, no per-cent signs."""
    classes, totals = class_lines(report), total_lines(report)
    columns = ("class", "n", "floor", *(("before", "after", "change", "flips") if report.before else ("accuracy",)))
    strong = frozenset(range(len(classes), len(classes) + len(totals)))
    return Table(columns, tuple(map(_narrow_cells, [*classes, *totals])), strong)


def _columns(report: Report, first: str) -> tuple[str, ...]:
    if report.before:
        return (first, "n", "without looking", "before", "after", "change", "fixed", "broken", "p (Holm)")
    return (first, "n", "without looking", "accuracy")


def _cells(line: Line) -> tuple[Cell, ...]:
    cells = [
        Cell(line.name),
        Cell(f"{line.n:,}" if line.part != "total" or line.name == OVERALL else f"{line.n} classes"),
        Cell(percent(line.floor)),
    ]
    cells += [accuracy_cell(estimate) for estimate in (line.before, line.after) if estimate]
    if line.change:
        fixed, broken = (str(line.flips.fixed), str(line.flips.broken)) if line.flips else ("", "")
        cells += [change_cell(line.change), Cell(fixed), Cell(broken)]
        if line.part != "source":
            cells.append(Cell("" if line.p is None else p_number(line.p)))
    return tuple(cells)


def _narrow_cells(line: Line) -> tuple[Cell, ...]:
    texts = [line.code or line.name, str(line.n), f"{100 * line.floor:.0f}"]
    for estimate in (line.before, line.after):
        if estimate:
            texts.append(f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}–{100 * estimate.high:.0f}]")
    if line.change:
        texts += [points(line.change.value), f"{line.flips.fixed}/{line.flips.broken}" if line.flips else ""]
    return tuple(map(Cell, texts))


def _share_line(
    part: Literal["class", "total", "source"],
    code: str,
    name: str,
    floor: float,
    before: Share | None,
    after: Share,
    flips: Flips | None,
) -> Line:
    change = Estimate(after.accuracy - before.accuracy, math.nan, math.nan) if before else None
    return Line(
        part, code, name, after.n, floor, _estimate(before) if before else None, _estimate(after), change, flips
    )


def _estimate(share: Share) -> Estimate:
    return Estimate(share.accuracy, share.low, share.high)


def rows_of(table: Table) -> Sequence[tuple[str, ...]]:
    """The rows as plain texts, intervals in brackets."""
    return [tuple(f"{cell.text} ({cell.detail})" if cell.detail else cell.text for cell in row) for row in table.rows]
