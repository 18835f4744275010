"""The report on the terminal, for a window 80 columns wide or more."""

from typing import TYPE_CHECKING

from benchmark.report.content import Report
from benchmark.report.side_tables import letter_table
from benchmark.report.tables import Table, narrow_table
from benchmark.report.wording import DISCLAIMER, answer, holding, looking, verdict

if TYPE_CHECKING:
    from rich.table import Table as Printed


def print_report(report: Report) -> None:
    """Print the main table, the letters and the findings."""
    # here, because rich takes a moment to import
    from rich.console import Console
    from rich.text import Text

    console = Console()
    title = "Accuracy in % [95 % interval]; f/s/r: class frequency, source only, rarest option"
    console.print(_printed(narrow_table(report), title))
    console.print(_printed(letter_table(report), "letters"))
    for text in ("".join(answer(report)), verdict(report), *report.notes, looking(report), holding(report), DISCLAIMER):
        if text:
            console.print(Text(text))


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
