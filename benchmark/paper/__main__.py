"""Print the paper's own results with intervals."""

from benchmark.paper.rows import PAPER_HOSTS, misprints, paper_change, paper_floor, paper_rows, summarise_row
from benchmark.stats.significance import Estimate
from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    # here, because rich takes a moment to import
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    parser = CommandParser(prog="python -m benchmark.paper", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    console = Console()

    def table(title: str, *names: str) -> Table:
        made = Table(title=title, title_justify="left", box=SIMPLE, padding=0)
        for name in names:
            made.add_column(name, justify="left" if name in ("host", "tower") else "right", no_wrap=True)
        return made

    rows = table("Accuracy in % [95 % interval]", "host", "tower", "overall", "ten classes", "25 classes")
    for row in paper_rows():
        summary = summarise_row(row)
        rows.add_row(row.host, row.tower, *map(_with_interval, (summary.overall, summary.ten_class, summary.macro)))
    rows.add_section()
    for names, floor in ((25, paper_floor(25)), (50, paper_floor(50))):
        values = (f"{100 * value:.1f}" for value in (floor.overall, floor.ten_class, floor.macro))
        rows.add_row(f"floor, {names} names", "", *values)
    console.print(rows)

    changes = table(
        "MGLL minus original [95 % interval as if unpaired]; McNemar p at most",
        *("host", "overall", "ten classes", "25 classes", "p"),
    )
    for change in filter(None, map(paper_change, PAPER_HOSTS)):
        averages = map(_with_interval, (change.overall, change.ten_class, change.macro))
        changes.add_row(change.after.host, *averages, f"{change.highest_p:.1g}")
    console.print(changes)
    for row, cell in misprints():
        console.print(
            f"misprinted, Table {row.table}: {row.host} ({row.tower}) {cell.code} {cell.printed} %;"
            f" {cell.correct} of {cell.cases} is {cell.recomputed} %",
            soft_wrap=True,
        )
    return 0


def _with_interval(estimate: Estimate) -> str:
    value, low, high = (f"{100 * each:.1f}" for each in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low:>4}, {high:>4}]"


if __name__ == "__main__":
    raise SystemExit(_main())
