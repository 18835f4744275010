"""The published figures of the same host beside a run's: a reference, not a comparison, since the images are others."""

from collections.abc import Iterator, Sequence
from math import nan

from benchmark.paper.rows import PaperChange, paper_change, paper_floor, summarise_row
from benchmark.report.content import Report
from benchmark.report.number_format import class_name, p_number, percent, points, points_interval
from benchmark.report.summary import Share
from benchmark.report.tables import OVERALL, Cell, Table, accuracy_cell, change_cell
from benchmark.stats.bootstrap import Estimate


def published_table(report: Report) -> Table | None:
    """Table of accuracies by class and in total: the published ones (own tower, MGLL's tower), then the runs here.

    None where the paper has no such host.
    """
    change = _change(report)
    if change is None:
        return None
    rows = (*_class_rows(report, change), *_total_rows(report, change))
    here = ("n here", "before", "after") if report.before else ("n here", "this run")
    columns = ("Disease", "published n", "own tower", "MGLL tower", "change", *here)
    return Table(columns, rows, frozenset(range(len(rows) - 3, len(rows))))


def published_note(report: Report) -> str:
    """What the published figures are, and what they are not; empty without such a host."""
    change = _change(report)
    if change is None:
        return ""
    floor = paper_floor()
    if change.highest_p < 0.001:
        test = "McNemar's p is below 0.001 whichever questions the two had in common"
    else:
        test = (
            f"McNemar's p lies between {p_number(change.lowest_p)} and {p_number(change.highest_p)}, depending on which"
        )
        test += " questions the two had in common"
    return (
        f"Published for {change.after.host} with its own and with the MGLL tower (Table {change.after.table} of the MGLL paper),"
        " on other images and with other options: a reference, not a comparison. On the published questions class frequency alone"
        f" would score about {percent(floor.overall)} overall and {percent(floor.ten_class)} in the ten-class average. The"
        f" published change is {points(change.overall.value)} points overall ({points_interval(change.overall)}, as if unpaired)"
        f" and {points(change.ten_class.value)} in the ten-class average; {test}."
    )


def _change(report: Report) -> PaperChange | None:
    return paper_change(report.paper) if report.paper else None


def _class_rows(report: Report, change: PaperChange) -> Iterator[tuple[Cell, ...]]:
    own, mgll = summarise_row(change.before).classes, summarise_row(change.after).classes
    cases = {cell.code: cell.cases for cell in change.after.cells}
    here = report.after.classes
    for code, n in cases.items():
        moved = Estimate(mgll[code].value - own[code].value, nan, nan)
        found = [run.classes.get(code) for run in (report.before, report.after) if run]
        n_here = f"{here[code].n:,}" if code in here else "–"
        yield _row(class_name(code), f"{n:,}", own[code], mgll[code], moved, n_here, found)


def _total_rows(report: Report, change: PaperChange) -> Iterator[tuple[Cell, ...]]:
    own, mgll, after = summarise_row(change.before), summarise_row(change.after), report.after
    runs = [run for run in (report.before, report.after) if run]
    n, n_here = f"{change.after.n:,}", f"{after.overall.n:,}"
    yield _row(OVERALL, n, own.overall, mgll.overall, change.overall, n_here, [run.overall for run in runs])
    n, n_here = f"{len(own.classes)} classes", f"{len(after.classes)} classes"
    yield _row("Macro average", n, own.macro, mgll.macro, change.macro, n_here, [run.macro for run in runs])
    n, n_here = f"{len(change.after.ten)} classes", f"{len(after.ten_present)} classes"
    found = [run.ten_class for run in runs]
    yield _row("Ten-class average", n, own.ten_class, mgll.ten_class, change.ten_class, n_here, found)


def _row(
    name: str,
    n: str,
    old: Estimate,
    new: Estimate,
    moved: Estimate,
    n_here: str,
    found: Sequence[Share | Estimate | None],
) -> tuple[Cell, ...]:
    published = (Cell(name), Cell(n), accuracy_cell(old), accuracy_cell(new), change_cell(moved))
    return (*published, Cell(n_here), *map(accuracy_cell, found))
