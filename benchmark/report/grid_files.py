"""A grid of hosts and towers as files: its page, LaTeX in the layout of the paper's Table 2, Excel, figures, all numbers as CSV."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.report.drawing import Dot, Line, dot_plot, matrix
from benchmark.report.figure_files import write_figures
from benchmark.report.frames import write_csv
from benchmark.report.grid import Grid
from benchmark.report.grid_page import differences, grid_page, heat, scale_of
from benchmark.report.grid_tables import CONTROL_NAMES, control_table, host_name, latex, main_table, seed_table
from benchmark.report.number_format import points, points_interval
from benchmark.report.workbook import write_workbook
from benchmark.stats.bootstrap import Estimate
from mgll.files import write_text


def write_grid(out: Path, grid: Grid, reports: Mapping[str, str]) -> list[Path]:
    """Write table2.html, .csv, .tex and .xlsx, and figures/, each atomically; returns their paths, the page's first.

    Args:
        out: the folder.
        grid: the numbers.
        reports: host -> its report, relative to the folder.
    """
    paths = [out / f"table2.{ending}" for ending in ("html", "csv", "tex", "xlsx")]
    numbers = pd.DataFrame(_lines(grid))
    write_text(paths[0], grid_page(grid, reports))
    write_csv(paths[1], numbers)
    write_text(paths[2], latex(grid))
    tables = {"Table 2": main_table(grid), "Each seed": seed_table(grid), "Controls": control_table(grid)}
    write_workbook(paths[3], {**tables, "Numbers as fractions": numbers})
    return [*paths, *write_figures(out / "figures", figures(grid))]


def figures(grid: Grid) -> dict[str, str]:
    """Name of a file -> the drawing as SVG: the differences, and what each tower changes by class."""
    panels = differences(grid)
    end = scale_of(panels)
    ticks = {value: points(value) for value in (-end, -end / 2, 0.0, end / 2, end)}
    found = {}
    for name, changes in panels:
        lines = [
            Line(
                host_name(host),
                (Dot("after", change.estimate),) if change else (),
                f"{points(change.estimate.value)} ({points_interval(change.estimate)})" if change else "not finished",
            )
            for host, change in changes.items()
        ]
        found[f"difference-{name}"] = dot_plot(f"Difference in overall accuracy, in points: {name}", lines, ticks, 0.0)
    for tower in grid.grafts:
        if rows := list(heat(grid, tower)):
            cells = [[(points(c["value"]) if c["known"] else "", _shade(c)) for c in row["cells"]] for row in rows]
            hosts = [host_name(host) for host in grid.hosts]
            title = f"Points gained (green) or lost (red) by class: {tower}"
            found[f"by-class-{tower}"] = matrix(title, [row["name"] for row in rows], hosts, cells)
    return found


def _shade(cell: Mapping[str, Any]) -> float:
    return cell["shade"] / 5 * (1 if cell["right"] else -1)


def _lines(grid: Grid) -> Iterator[dict[str, object]]:
    """A line for each row and number: mean, interval, each seed, change with interval and p; and one for each failure."""
    seeds = sorted({seed for row in grid.rows for seed in (*row.seeds, *row.failures)})
    for row in grid.rows:
        start: dict[str, object] = {"host": row.host, "tower": row.tower}
        for name, found in row.numbers.items():
            change = row.changes.get(name)
            by_seed = dict(zip(row.seeds, found.by_run, strict=True))
            yield start | {
                "number": name,
                "seeds": len(row.seeds),
                "about": "the method" if len(row.seeds) > 1 else "one set of weights",
                **_named("", found.estimate),
                **{f"seed_{seed}": by_seed.get(seed) for seed in seeds},
                **(_named("change_", change.estimate) if change else {}),
                "p": change.p if change and not math.isnan(row.p) else None,
                "p_holm": row.p_holm if change and name == "overall" and not math.isnan(row.p_holm) else None,
            }
        if pair := grid.pairs.get((row.host, row.tower)):
            p = pair.p if min(pair.runs) > 1 else None
            name = f"overall, {grid.grafts[-1]} less this tower"
            yield start | {"number": name, "seeds": len(row.seeds), **_named("change_", pair.estimate), "p": p}
        for shown, value in row.controls.items():
            yield start | {
                "number": f"overall, {CONTROL_NAMES.get(shown, shown)}",
                "seeds": len(row.seeds),
                "value": value,
            }
        for seed, said in row.failures.items():
            yield start | {"number": f"{row.missing(seed)}, seed {seed}", "failure": said}


def _named(prefix: str, estimate: Estimate) -> dict[str, float]:
    return {f"{prefix}value": estimate.value, f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
