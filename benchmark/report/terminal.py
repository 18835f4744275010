"""The report on the terminal, for a window 80 columns wide or more; names that are too long lose their middle."""

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.cases.floor import RULE_NAMES
from benchmark.report.content import Report
from benchmark.report.grid import Grid
from benchmark.report.grid_tables import headline, narrow_grid_table, own_tower
from benchmark.report.number_format import middle_cut
from benchmark.report.side_tables import letter_table
from benchmark.report.tables import Table, narrow_table
from benchmark.report.wording import DISCLAIMER, answer, holding, looking, verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Printed

#: Longest name of a model in a sentence, in characters.
NAME = 48


def print_report(report: Report) -> None:
    """Print the main table, the letters and the findings."""
    # here, because rich takes a moment to import
    from rich.console import Console
    from rich.text import Text

    console, report = Console(), _with_short_names(report)
    title = "Accuracy in % [95 % interval]; f/s/r: class frequency, source only, rarest option"
    console.print(_fitted(console, narrow_table(report), title))
    console.print(_fitted(console, letter_table(report), "letters"))
    for text in ("".join(answer(report)), verdict(report), *report.notes, looking(report), holding(report), DISCLAIMER):
        if text:
            console.print(Text(text))


def print_grid(grid: Grid) -> None:
    """Print what each tower changes in each host, and what the page says first."""
    # here, because rich takes a moment to import
    from rich.console import Console
    from rich.text import Text

    console = Console()
    floors = ", ".join(f"{RULE_NAMES[rule]} {value:.0%}" for rule, value in grid.floors.items())
    title = f"Accuracy in % [95 % interval], {grid.questions} questions; without looking: {floors}"
    console.print(_fitted(console, narrow_grid_table(grid), title))
    for text in (headline(grid), own_tower(grid), DISCLAIMER):
        if text:
            console.print(Text(text))


def _with_short_names(report: Report) -> Report:
    controls = {
        role: replace(control, run=replace(control.run, name=middle_cut(control.run.name, NAME)))
        for role, control in report.controls.items()
    }
    after = replace(report.after, name=middle_cut(report.after.name, NAME))
    before = replace(report.before, name=middle_cut(report.before.name, NAME)) if report.before else None
    return replace(report, after=after, before=before, controls=controls)


def _fitted(console: "Console", table: Table, title: str) -> "Printed":
    """The table as it is printed, the names in its first column cut where it would be wider than the window."""
    wide = console.options.update(max_width=100_000)
    surplus = console.measure(_printed(table, ""), options=wide).maximum - console.width
    if surplus > 0:
        room = max(8, max(len(row[0].text) for row in table.rows) - surplus)
        rows = tuple((row[0]._replace(text=middle_cut(row[0].text, room)), *row[1:]) for row in table.rows)
        table = replace(table, rows=rows)
    return _printed(table, title)


def _printed(table: Table, title: str) -> "Printed":
    from rich.box import SIMPLE
    from rich.table import Table as Printed
    from rich.text import Text

    printed = Printed(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for number, name in enumerate(table.columns):
        printed.add_column(name, justify="right" if number else "left", no_wrap=True)
    for number, row in enumerate(table.rows):
        if number in table.strong and number - 1 not in table.strong:
            printed.add_section()
        printed.add_row(*(Text(cell.text) for cell in row))
    return printed
