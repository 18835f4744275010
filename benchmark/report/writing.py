"""Write a report in all its forms."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmark.cases.case import Case, read_cases
from benchmark.predictions.file import read_run
from benchmark.report.content import Report, build_report
from benchmark.report.frames import case_table, class_table, write_table
from benchmark.report.markdown import markdown
from mgll.files import write_text


def write_report(out: str | os.PathLike[str], report: Report) -> dict[str, Path]:
    """Write the page, the Markdown and the tables into a directory, each atomically; return their paths by name."""
    # here, because jinja2 takes a moment to import
    from benchmark.report.html_page import page

    out = Path(out)
    texts = {"report.html": page(report), "report.md": markdown(report)}
    for name, text in texts.items():
        write_text(out / name, text)
    tables = {"per_class": class_table(report), "per_case": case_table(report)}
    written = [path for name, table in tables.items() for path in write_table(out / name, table)]
    return {path.name: path for path in (*(out / name for name in texts), *written)}


def report_runs(
    out: str | os.PathLike[str],
    cases: str | os.PathLike[str] | Sequence[Case],
    after: str | os.PathLike[str],
    before: str | os.PathLike[str] | None = None,
    blind: str | os.PathLike[str] | None = None,
    any_prompt: bool = False,
    shuffled: str | os.PathLike[str] | None = None,
    paper: str | None = None,
) -> Report:
    """Make and write the report of finished runs (output directories of run_mcq, or their predictions files).

    Raises:
        FormatError: if a file is not what it should be.
        ImageError: if an image is missing or has changed.
        ComparisonError: as `build_report`.
    """
    asked = read_cases(cases) if isinstance(cases, str | os.PathLike) else cases
    before_run, blind_run, shuffled_run = (read_run(path) if path else None for path in (before, blind, shuffled))
    report = build_report(asked, read_run(after), before_run, blind_run, any_prompt, shuffled=shuffled_run, paper=paper)
    write_report(out, report)
    return report
