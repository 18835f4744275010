"""The tables of a grid of hosts and towers, what its page says of them, and how it is written for LaTeX."""

import math
from collections.abc import Mapping

from benchmark.cases.images import Shown
from benchmark.paper.rows import PAPER_HOSTS, paper_change
from benchmark.report.grid import Grid, GridRow
from benchmark.report.latex import escaped
from benchmark.report.number_format import p_number, percent, points
from benchmark.report.side_tables import TOTAL_NAMES
from benchmark.report.tables import Cell, Table, accuracy_cell, change_cell
from benchmark.stats.seeds import OverSeeds
from mgll.vocabulary.diseases import FUNDUS, TEN_CLASSES, benchmark_classes

CONTROL_NAMES: Mapping[Shown, str] = {
    "blank": "blank images",
    "source": "mean images of the sources",
    "shuffled": "images of other cases",
}


def headline(grid: Grid) -> str:
    """What the last tower does in how many hosts."""
    rows = [row for row in grid.rows if row.tower == grid.grafts[-1] and row.changes] if grid.grafts else []
    if not rows:
        return "No tower can be compared with an untouched host yet"
    better = sum(row.p_holm < 0.05 and row.changes["overall"].estimate.value > 0 for row in rows)
    worse = sum(row.p_holm < 0.05 and row.changes["overall"].estimate.value < 0 for row in rows)
    if all(math.isnan(row.p) for row in rows):
        up = sum(row.changes["overall"].estimate.value > 0 for row in rows)
        return f"{rows[0].tower}: higher than the untouched host in {up} of {len(rows)} hosts, one seed each, so nothing is claimed"
    return f"{rows[0].tower}: better than the untouched host in {better} of {len(rows)} hosts, worse in {worse}"


def own_tower(grid: Grid) -> str:
    """Whether the hosts' own towers, grafted again, changed anything."""
    if not grid.changed:
        return ""
    odd = [f"{host_name(host)} ({said})" for host, said in grid.changed.items() if said]
    if odd:
        return (
            f"Grafting a host’s own tower again must change nothing, but it changed {'; '.join(odd)}:"
            " trust no row of these hosts."
        )
    return (
        "Each host’s own tower, grafted again and fine-tuned alike, gives the untouched host’s answers to every"
        f" question, on all images shown: {len(grid.changed)} of {len(grid.changed)} hosts checked."
    )


def main_table(grid: Grid) -> Table:
    """The paper's Table 2: a row for each tower in each host, the ten classes, their average, and what the tower changes."""
    codes = ten_codes(grid)
    columns = ("Host", "Tower", "Seeds", *codes, "Ten classes", "Change", "Overall", "Change", "p", "p, Holm")
    columns += ("Informedness", "Paper, ten classes")
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for row in grid.rows:
        if row.tower == grid.untouched:
            strong.add(len(rows))
        name = Cell(host_name(row.host)) if row.tower == grid.untouched else Cell("")
        rows.append(
            (
                name,
                Cell(row.tower),
                Cell(_done(row)),
                *(_share(row, f"accuracy of {code}", brief=True) for code in codes),
                _share(row, "ten_class"),
                _change(grid, row, "ten_class"),
                _share(row, "overall"),
                _change(grid, row, "overall"),
                Cell(p_number(row.p)),
                Cell(p_number(row.p_holm)),
                _share(row, "informedness"),
                Cell(_paper(grid, row)),
            )
        )
    return Table(columns, tuple(rows), frozenset(strong), labels=2)


def narrow_grid_table(grid: Grid) -> Table:
    """What fits a terminal: each tower's overall accuracy, what it changes, and p over the hosts; failures are counted."""
    rows = [
        (
            Cell(host_name(row.host) if row.tower == grid.untouched else ""),
            Cell(row.tower),
            Cell(_done(row)),
            _in_one(_share(row, "overall")),
            _in_one(_change(grid, row, "overall")),
            Cell(p_number(row.p_holm)),
        )
        for row in grid.rows
    ]
    return Table(("Host", "Tower", "Seeds", "Overall", "Change", "p, Holm"), tuple(rows), labels=2)


def _in_one(cell: Cell) -> Cell:
    return Cell(f"{cell.text} [{cell.detail}]") if cell.detail else cell


def seed_table(grid: Grid) -> Table:
    """Each seed's overall accuracy, ten-class average and informedness."""
    names = [name for name in ("overall", "ten_class", "informedness") if any(name in row.numbers for row in grid.rows)]
    rows: list[tuple[Cell, ...]] = []
    for row in grid.rows:
        for index, seed in enumerate(row.seeds):
            values = (Cell(percent(row.numbers[name].by_run[index])) for name in names)
            rows.append((Cell(host_name(row.host)), Cell(row.tower), Cell(str(seed)), *values))
        rows += [
            (
                Cell(host_name(row.host)),
                Cell(row.tower),
                Cell(str(seed)),
                *(Cell(row.missing(seed)) for _ in names),
            )
            for seed in row.failures
        ]
    return Table(("Host", "Tower", "Seed", *(TOTAL_NAMES[name] for name in names)), tuple(rows), labels=2)


def control_table(grid: Grid) -> Table:
    """What each tower scores overall on its own images and on those that hide the finding, mean over the seeds."""
    rows = [
        (
            Cell(host_name(row.host)),
            Cell(row.tower),
            Cell(percent(row.numbers["overall"].estimate.value)),
            *(Cell(percent(row.controls[name])) if name in row.controls else Cell("–") for name in CONTROL_NAMES),
        )
        for row in grid.rows
        if row.numbers
    ]
    return Table(("Host", "Tower", "own images", *CONTROL_NAMES.values()), tuple(rows), labels=2)


def latex(grid: Grid) -> str:
    """The table for LaTeX (booktabs): as the paper's, with intervals, differences and p."""
    codes = ten_codes(grid)
    heads = " & ".join(escaped(code) for code in codes)
    lines = [
        f"% {grid.questions} questions, {grid.patients} patients or eyes; 95 % intervals. Research use only, not for diagnosis.",
        f"\\begin{{tabular}}{{ll{'r' * len(codes)}rrrr}}",
        "\\toprule",
        f"Host & Tower & {heads} & Ten classes & Overall & Change & $p$ \\\\",
    ]
    for row in grid.rows:
        if row.tower == grid.untouched:
            lines.append("\\midrule")
        cells = [escaped(host_name(row.host)) if row.tower == grid.untouched else "", escaped(row.tower)]
        if row.numbers:
            cells += [_tex_number(row.numbers.get(f"accuracy of {code}")) for code in codes]
            cells += [_tex_interval(row.numbers.get("ten_class")), _tex_interval(row.numbers["overall"])]
            cells += [_tex_change(row.changes.get("overall")), "" if math.isnan(row.p) else escaped(p_number(row.p))]
        else:
            cells += [f"\\multicolumn{{{len(codes) + 4}}}{{l}}{{{row.missing()}}}"]
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def host_name(host: str) -> str:
    """The paper's name of a host, or ours where it has none."""
    return PAPER_HOSTS.get(host, host)


def ten_codes(grid: Grid) -> list[str]:
    """The classes of the paper's Table 2 that the questions have, in its order."""
    return [
        d.code for d in benchmark_classes() if grid.table is FUNDUS and d.code in TEN_CLASSES and d.code in grid.codes
    ]


def _share(row: GridRow, name: str, brief: bool = False) -> Cell:
    found = row.numbers.get(name)
    if found is None:
        return Cell(row.missing() if row.failures and not row.seeds else "–")
    return Cell(percent(found.estimate.value)) if brief else accuracy_cell(found.estimate)


def _change(grid: Grid, row: GridRow, name: str) -> Cell:
    if row.tower == grid.own and row.host in grid.changed:
        return Cell("changed" if grid.changed[row.host] else "none")
    found = row.changes.get(name)
    return change_cell(found.estimate if found else None)


def _paper(grid: Grid, row: GridRow) -> str:
    """What the paper prints for this host: its ten-class average for the untouched one, its gain for MGLL's tower."""
    published = paper_change(row.host)
    if published is None:
        return ""
    if row.tower == grid.untouched:
        return f"{published.before.ten_class}\u202f%"
    return points(published.ten_class.value) if row.tower == "mgll" else ""


def _tex_number(found: OverSeeds | None) -> str:
    return "--" if found is None else f"{100 * found.estimate.value:.2f}"


def _tex_interval(found: OverSeeds | None) -> str:
    if found is None:
        return "--"
    e = found.estimate
    return f"{100 * e.value:.2f} ({100 * e.low:.1f}--{100 * e.high:.1f})"


def _tex_change(found: OverSeeds | None) -> str:
    if found is None:
        return ""
    e = found.estimate
    return f"${100 * e.value:+.1f}$ (${100 * e.low:+.1f}$ to ${100 * e.high:+.1f}$)"


def _done(row: GridRow) -> str:
    """How many of a row's seeds are finished."""
    return f"{len(row.seeds)} of {len(row.seeds) + len(row.failures)}" if row.failures else str(len(row.seeds))
