"""The report's table: one line a class, then the averages, then the sources of the images."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

from benchmark.bootstrap import Estimate
from benchmark.report import Report
from benchmark.report_numbers import disease_name, interval, percent, points
from benchmark.summary import Change, Flips, RunSummary, Share


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        code: class code or source; empty for overall and averages.
        name: what to call it.
        n: number of cases; of an average, the number of classes.
        floor: accuracy from class frequency alone.
        before: accuracy before with its interval; None in the report of one run.
        after: accuracy (after) with its interval.
        change: after minus before; its interval is NaN for single classes.
        flips: answers fixed and broken; None for averages.
    """

    code: str
    name: str
    n: int
    floor: float
    before: Estimate | None
    after: Estimate
    change: Estimate | None
    flips: Flips | None


def class_lines(report: Report) -> list[Line]:
    """One line a class, the most frequent first."""
    before, change = report.before, report.change
    return [
        _share_line(
            code, disease_name(code), report.floor.by_class[code], before.classes[code] if before else None, share,
            change.classes[code] if change else None,
        )
        for code, share in report.after.classes.items()
    ]  # fmt: skip


def source_lines(report: Report) -> list[Line]:
    """One line a data set; none where all images come from one."""
    before, change, sources = report.before, report.change, report.after.sources
    if len(sources) < 2:
        return []
    return [
        _share_line(
            name, name or "not stated", report.source_floors[name], before.sources[name] if before else None, share,
            change.sources[name] if change else None,
        )
        for name, share in sources.items()
    ]  # fmt: skip


def total_lines(report: Report) -> list[Line]:
    """Overall (Wilson interval; its change from the bootstrap), macro and ten-class average (bootstrap intervals)."""
    before, change, after, floor = report.before, report.change, report.after, report.floor
    overall = _share_line(
        "",
        "Overall",
        floor.overall,
        before.overall if before else None,
        after.overall,
        change.flips if change else None,
    )

    def average(name: str, n: int, floor: float, of: Callable[[RunSummary | Change], Estimate]) -> Line:
        return Line("", name, n, floor, of(before) if before else None, of(after), of(change) if change else None, None)

    lines = [replace(overall, change=change.overall if change else None)]
    lines.append(average("Macro average", len(after.classes), floor.macro, attrgetter("macro")))
    if after.ten_present:
        lines.append(average("Ten-class average", len(after.ten_present), floor.ten_class, attrgetter("ten_class")))
    return lines


def cells(line: Line) -> list[str]:
    """A line as printed: name, n, floor, accuracies with intervals, change, fixed, broken."""
    texts = [line.name, f"{line.n:,}", percent(line.floor)]
    for estimate in (line.before, line.after):
        if estimate:
            texts += [percent(estimate.value), interval(estimate)]
    if line.change:
        texts += [
            points(line.change.value),
            *((str(line.flips.fixed), str(line.flips.broken)) if line.flips else ("", "")),
        ]
    return texts


def columns(report: Report, first: str = "class") -> list[str]:
    """Headings over `cells`."""
    if report.before:
        return [first, "n", "floor", "before", "interval", "after", "interval", "change", "fixed", "broken"]
    return [first, "n", "floor", "accuracy", "interval"]


def narrow_cells(line: Line) -> list[str]:
    """A line for a terminal 80 columns wide: class codes, accuracy and interval in one cell, no per-cent signs."""
    texts = [line.code or line.name, str(line.n), f"{100 * line.floor:.0f}"]
    for estimate in (line.before, line.after):
        if estimate:
            texts.append(f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}–{100 * estimate.high:.0f}]")
    if line.change:
        texts += [points(line.change.value), f"{line.flips.fixed}/{line.flips.broken}" if line.flips else ""]
    return texts


def narrow_columns(report: Report) -> list[str]:
    """Headings over `narrow_cells`."""
    return ["class", "n", "floor", *(["before", "after", "change", "flips"] if report.before else ["accuracy"])]


def _share_line(code: str, name: str, floor: float, before: Share | None, after: Share, flips: Flips | None) -> Line:
    change = Estimate(after.accuracy - before.accuracy, math.nan, math.nan) if before else None
    return Line(code, name, after.n, floor, _estimate(before) if before else None, _estimate(after), change, flips)


def _estimate(share: Share) -> Estimate:
    return Estimate(share.accuracy, share.low, share.high)

