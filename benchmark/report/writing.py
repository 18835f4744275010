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

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


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
    after: Paths,
    before: Paths | None = None,
    blind: str | os.PathLike[str] | None = None,
    any_prompt: bool = False,
    shuffled: str | os.PathLike[str] | None = None,
    paper: str | None = None,
    training: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    border: str | os.PathLike[str] | None = None,
) -> Report:
    """Make and write the report of finished runs (output directories of run_mcq, or their predictions files).

    `after` and `before` may be several runs each, of one method under several seeds; `training` is the file of training questions
    that the floors learn from.

    Raises:
        FormatError: if a file is not what it should be.
        ImageError: if an image is missing or has changed.
        ComparisonError: as `build_report`.
    """
    asked = read_cases(cases) if isinstance(cases, str | os.PathLike) else cases
    controls = [read_run(path) if path else None for path in (blind, shuffled, source, border)]
    report = build_report(
        asked,
        [read_run(path) for path in _listed(after)],
        [read_run(path) for path in _listed(before)] if before else None,
        controls[0],
        any_prompt,
        shuffled=controls[1],
        paper=paper,
        training=read_cases(training) if training else None,
        source=controls[2],
        border=controls[3],
    )
    write_report(out, report)
    return report


def _listed(paths: Paths | None) -> list[str | os.PathLike[str]]:
    return [] if paths is None else [paths] if isinstance(paths, str | os.PathLike) else list(paths)
