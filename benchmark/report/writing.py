"""Write a report in all its forms."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.cases.case import Case, read_cases
from benchmark.predictions.file import read_run
from benchmark.report.all_tables import all_tables
from benchmark.report.content import Report, build_report
from benchmark.report.frames import case_table, class_table, write_table
from benchmark.report.markdown import markdown
from benchmark.report.origin import origin_of
from mgll.files import write_text
from mgll.formats import FormatError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def write_report(
    out: str | os.PathLike[str], report: Report, images: bool = True, maps: str | os.PathLike[str] | None = None
) -> dict[str, Path]:
    """Write the page, its other forms, the tables and the figures into a directory, each atomically; return their paths by name.

    Args:
        out: the directory; made where it is missing.
        report: what is said.
        images: whether the page holds small copies of the cases' images; not every data set may be handed on.
        maps: a page of maps (`recipes/tower_maps.py`) that the report links to.

    Raises:
        ImageError: if an image to embed is missing or has changed.
    """
    # here, because jinja2 and openpyxl take a moment to import
    from benchmark.report.figure_files import figures, write_figures
    from benchmark.report.html_page import page
    from benchmark.report.latex import latex_of
    from benchmark.report.methods import methods_text
    from benchmark.report.workbook import write_workbook

    out, tables = Path(out), all_tables(report)
    link = os.path.relpath(maps, out).replace(os.sep, "/") if maps else None
    texts = {
        "report.html": page(report, images, link),
        "report.md": markdown(report),
        "methods.txt": methods_text(report),
        "tables.tex": latex_of(tables),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    write_workbook(out / "tables.xlsx", {"Results as fractions": class_table(report), **tables})
    frames = {"per_class": class_table(report), "per_case": case_table(report)}
    written = [path for name, frame in frames.items() for path in write_table(out / name, frame)]
    written += write_figures(out / "figures", figures(report))
    return {path.name: path for path in (*(out / name for name in texts), out / "tables.xlsx", *written)}


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
    images: bool = True,
    maps: str | os.PathLike[str] | None = None,
) -> Report:
    """Make and write the report of finished runs (output directories of run_mcq, or their predictions files).

    `after` and `before` may be several runs each, of one method under several seeds; `training` is the file of training questions
    that the floors learn from; `images` and `maps` as for `write_report`.

    Raises:
        FormatError: if a file is missing or not what it should be.
        ImageError: if an image is missing or has changed.
        ComparisonError: as `build_report`.
    """
    if maps is not None and not Path(maps).is_file():
        raise FormatError(maps, None, "no such page of maps; recipes/tower_maps.py makes one, OUT/maps.html")
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
    report = with_origins(report, _listed(after), _listed(before))
    write_report(out, report, images, maps)
    return report


def with_origins(
    report: Report, after: Sequence[str | os.PathLike[str]], before: Sequence[str | os.PathLike[str]] = ()
) -> Report:
    """The report with what the folders of its runs say of how their models were made."""
    found = {"before": before, "after": after}
    return replace(report, origins={side: tuple(map(origin_of, runs)) for side, runs in found.items() if runs})


def _listed(paths: Paths | None) -> list[str | os.PathLike[str]]:
    return [] if paths is None else [paths] if isinstance(paths, str | os.PathLike) else list(paths)
