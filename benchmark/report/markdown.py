"""The report as Markdown."""

from collections.abc import Iterator

from benchmark.cases.markdown_text import markdown_code
from benchmark.cases.markdown_text import markdown_text as _text
from benchmark.report.case_browser import unnamed_reasons
from benchmark.report.content import Report
from benchmark.report.first_screen import claim, headline
from benchmark.report.methods import methods
from benchmark.report.published import published_note, published_table
from benchmark.report.samples import sample_table
from benchmark.report.side_tables import (
    agreement_table,
    calibration_table,
    confusion_table,
    control_table,
    letter_table,
    reading_table,
    seed_table,
)
from benchmark.report.tables import Table, main_table, rows_of, source_table
from benchmark.report.wording import DISCLAIMER, answer, holding, looking, method, record, seeds, verdict

#: So many replies that name no option are listed; the case table holds all.
LISTED = 20


def markdown(report: Report) -> str:
    """The report as Markdown."""
    start, figure, end = answer(report)
    lines = [
        f"# {_text(headline(report))}",
        "",
        f"{_text(claim(report))}\n",
        f"{_text(start)}**{figure}**{_text(end)}",
        "",
    ]
    lines += [f"{_text(text)}\n" for text in (verdict(report), *report.notes) if text]
    lines.append(f"**{DISCLAIMER}**\n")
    lines += ["## By disease", "", *table_lines(main_table(report)), ""]
    lines += ["## Would another seed say so?", "", _text(seeds(report)), "", *table_lines(seed_table(report)), ""]
    if by_source := source_table(report):
        lines += ["## By source of the images", "", *table_lines(by_source), ""]
    lines += ["## Does it look at the image?", "", _text(looking(report)), "", *table_lines(control_table(report)), ""]
    lines += ["## Does the answer hold?", "", _text(holding(report)), "", *table_lines(reading_table(report)), ""]
    if agreement := agreement_table(report):
        lines += ["How often two views choose the same option:", "", *table_lines(agreement), ""]
    lines += ["How often each letter was chosen:", "", *table_lines(letter_table(report)), ""]
    lines += _unnamed(report)
    lines += ["## Which disease is taken for which", "", *table_lines(confusion_table(report)), ""]
    if calibration := calibration_table(report):
        lines += ["## How far can its probabilities be believed?", "", *table_lines(calibration), ""]
    if published := published_table(report):
        lines += ["## Beside the published figures", "", _text(published_note(report)), "", *table_lines(published), ""]
    lines += ["## Sample questions", "", *table_lines(sample_table(report)), ""]
    lines += ["## For a supplement", "", *(f"{_text(paragraph)}\n" for paragraph in methods(report))]
    lines += ["## How the numbers are made", "", *(f"- **{term}.** {_text(text)}" for term, text in method(report))]
    lines += ["", "## What was run", ""]
    for role, header in report.headers.items():
        name = "model" if report.before is None and role == "after" else role
        lines.append(
            f"- {name}: " + "; ".join(f"{_text(entry)} {markdown_code(value)}" for entry, value in record(header))
        )
    return "\n".join(lines) + "\n"


def _unnamed(report: Report) -> Iterator[str]:
    found = len(report.after.unnamed)
    if not found:
        return
    yield "Replies that name no option" + (f" (the first {LISTED} of {found}):" if found > LISTED else ":")
    yield ""
    for case, order, reply, reason in unnamed_reasons(report, LISTED):
        yield f"- {_text(case)}, options as {order}: {_text(reason)}: {markdown_code(reply)}"
    yield ""


def table_lines(table: Table) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| " + " | ".join(map(_text, table.columns)) + " |"
    yield "|---" * table.labels + "|---:" * (len(table.columns) - table.labels) + "|"
    for number, row in enumerate(rows_of(table)):
        cells = [_text(cell) for cell in row]
        cells[0] = f"**{cells[0]}**" if number in table.strong else cells[0]
        yield "| " + " | ".join(cells) + " |"
