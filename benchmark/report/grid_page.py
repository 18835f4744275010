"""A grid of hosts and towers as one page, and what its figures show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from benchmark.cases.floor import RULE_NAMES
from benchmark.report.grid import Grid
from benchmark.report.grid_tables import control_table, headline, host_name, main_table, own_tower, seed_table
from benchmark.report.html_page import environment, own_file
from benchmark.report.number_format import class_name, p_number, points, points_interval
from benchmark.stats.seeds import OverSeeds

#: Width of a shade of the heat map, in points.
SHADE = 4


def grid_page(grid: Grid, reports: Mapping[str, str]) -> str:
    """The page: failures, the table, each seed, forest plot, heat map, controls, links to the hosts' reports."""
    panels = differences(grid)
    scale = scale_of(panels)
    return (
        environment()
        .get_template("grid.html")
        .render(
            css=Markup(own_file("report.css") + own_file("grid.css")),
            grid=grid,
            title=f"Table 2: {_counted(len(grid.hosts), 'host')}, {_counted(len(grid.grafts), 'tower')}",
            headline=headline(grid),
            failures=[(row, seed, said) for row in grid.rows for seed, said in row.failures.items()],
            own=own_tower(grid),
            main=main_table(grid),
            seeds=seed_table(grid),
            controls=control_table(grid),
            scale=scale,
            ticks=[-scale, -scale / 2, 0.0, scale / 2, scale],
            at=lambda value: f"{50 + 50 * max(-1.0, min(1.0, value / scale)):.2f}%",
            panels=panels,
            heat=[(tower, list(heat(grid, tower))) for tower in reversed(grid.grafts)],
            reports=reports,
            host_name=host_name,
            points=points,
            p_number=p_number,
            points_interval=points_interval,
            rules=RULE_NAMES,
        )
    )


def differences(grid: Grid) -> list[tuple[str, dict[str, OverSeeds | None]]]:
    """What is less what -> host -> the difference in overall accuracy: towers less the untouched host, the last less the others."""
    found = [(f"{tower}, less the untouched host", _changes_of(grid, tower)) for tower in reversed(grid.grafts)]
    return found + [
        (f"{grid.grafts[-1]}, less {tower}", _pairs_of(grid, tower)) for tower in reversed(grid.grafts[:-1])
    ]


def scale_of(panels: Sequence[tuple[str, Mapping[str, OverSeeds | None]]]) -> float:
    """Where the axis of differences ends, as a fraction: the next 5 points beyond the widest interval."""
    known = [change.estimate for _, rows in panels for change in rows.values() if change]
    most = max((abs(end) for estimate in known for end in (estimate.low, estimate.high)), default=0.05)
    return max(0.05, math.ceil(20 * most) / 20)


def heat(grid: Grid, tower: str) -> Iterator[dict[str, Any]]:
    """A line for each class and average, with a cell for each host: points gained, and how dark they are shown."""
    names = {f"accuracy of {code}": class_name(code, grid.table) for code in grid.codes}
    names |= {"ten_class": "Ten classes", "macro": "Macro average", "overall": "Overall"}
    for number, name in names.items():
        cells: list[dict[str, Any]] = []
        for host in grid.hosts:
            found = grid.row(host, tower).changes.get(number)
            value = found.estimate.value if found else math.nan
            known = not math.isnan(value)
            shade = min(5, math.ceil(100 * abs(value) / SHADE)) if known else 0
            cells.append({"host": host, "value": value, "known": known, "right": value > 0, "shade": shade})
        if any(cell["known"] for cell in cells):
            yield {"name": name, "cells": cells}


def _changes_of(grid: Grid, tower: str) -> dict[str, OverSeeds | None]:
    return {host: grid.row(host, tower).changes.get("overall") for host in grid.hosts}


def _pairs_of(grid: Grid, tower: str) -> dict[str, OverSeeds | None]:
    return {host: grid.pairs.get((host, tower)) for host in grid.hosts}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
