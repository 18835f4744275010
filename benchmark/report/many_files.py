"""Any number of runs side by side as files: one page, Markdown, LaTeX, Excel, all numbers as CSV, figures, a methods paragraph."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark.cases.case import read_cases
from benchmark.cases.floor import RULE_NAMES
from benchmark.predictions.file import read_run
from benchmark.report.frames import write_table
from benchmark.report.many import SideBySide, side_by_side
from benchmark.report.many_words import all_tables, headline, markdown, marks, methods_said
from benchmark.report.origin import origin_of
from mgll.files import write_text


def report_many(
    out: str | os.PathLike[str],
    cases: str | os.PathLike[str],
    runs: Mapping[str, Sequence[str | os.PathLike[str]]],
    training: str | os.PathLike[str] | None = None,
    any_prompt: bool = False,
) -> SideBySide:
    """Set finished runs side by side and write `runs.html` and its other forms.

    Args:
        out: the directory; made where it is missing.
        cases: the file of cases that all runs answered.
        runs: method -> output directories of run_mcq, or their predictions files, one for each seed.
        training: file of training questions that the floors learn from.
        any_prompt: set hosts side by side that wrap the same question differently.

    Raises:
        FormatError: if a file is not what it should be.
        ComparisonError: as `side_by_side`.
    """
    asked = read_cases(cases)
    read = {name: [read_run(path) for path in own] for name, own in runs.items()}
    learned = read_cases(training) if training else None
    found = side_by_side(asked, read, learned, any_prompt)
    methods = (replace(m, origins=tuple(map(origin_of, runs[m.name]))) for m in found.methods)
    found = replace(found, methods=tuple(methods))
    write_many(Path(out), found)
    return found


def named_runs(said: Sequence[str]) -> dict[str, list[str]]:
    """Method -> its runs, of `RUN` and `NAME=RUN`; without a name a run is called as its predictions call the model.

    Raises:
        FormatError: if a predictions file is not what it should be.
        ValueError: if two runs without names are called alike: copies, seeds, or chance, nobody could tell.
    """
    found: dict[str, list[str]] = {}
    unnamed: set[str] = set()
    for one in said:
        name, equals, run = one.partition("=")
        if not equals or Path(one).exists():
            name, run = read_run(one).name, one
            if name in found:
                raise ValueError(
                    f"two runs are called {name}; give each as NAME=RUN (runs of one name are the seeds of one method)"
                )
            unnamed.add(name)
        elif name in unnamed:
            raise ValueError(f"{one}: another run is called {name} by its own file; give that one a name too")
        found.setdefault(name, []).append(run)
    return found


def write_many(out: Path, found: SideBySide) -> list[Path]:
    """Write runs.html, .md, .tex, .xlsx, .csv, .parquet, methods.txt and figures/, each atomically; returns the paths."""
    # here, because jinja2 and openpyxl take a moment to import
    from benchmark.report.drawing import Dot, Line, dot_plot, share_said
    from benchmark.report.figure_files import GUESSING, SHARES, write_figures
    from benchmark.report.latex import latex_of
    from benchmark.report.many_page import runs_page
    from benchmark.report.workbook import write_workbook

    tables = all_tables(found)
    frame = pd.DataFrame(_lines(found))
    texts = {"html": runs_page(found, tables), "md": markdown(found, tables), "tex": latex_of(tables)}
    for ending, text in texts.items():
        write_text(out / f"runs.{ending}", text)
    write_text(out / "methods.txt", "\n\n".join(methods_said(found)) + "\n")
    write_workbook(out / "runs.xlsx", {"Numbers as fractions": frame, **tables})
    lines = [Line(m.name, (Dot(m.kind, m.right),), share_said(m.right)) for m in marks(found)]
    written = write_figures(out / "figures", {"runs": dot_plot(headline(found), lines, SHARES, GUESSING)})
    endings = [out / f"runs.{ending}" for ending in (*texts, "xlsx")]
    return [*endings, out / "methods.txt", *write_table(out / "runs", frame), *written]


def _lines(found: SideBySide) -> Iterator[dict[str, object]]:
    """A line for each method and number: mean, interval, each run, change from the first with interval and p; then the rules."""
    for method in found.methods:
        for name, number in method.numbers.items():
            change = method.changes.get(name)
            several = not math.isnan(method.p)
            yield {
                "method": method.name,
                "number": name,
                "seeds": method.runs,
                "value": number.estimate.value,
                "low": number.estimate.low,
                "high": number.estimate.high,
                "by_run": " ".join(f"{value:.4f}" for value in number.by_run),
                "change": change.estimate.value if change else None,
                "change_low": change.estimate.low if change else None,
                "change_high": change.estimate.high if change else None,
                "p": change.p if change and several else None,
                "p_holm": method.p_holm if change and several and name == "overall" else None,
            }
    for total in found.questions.totals():
        for rule, value in found.floors.of(total).items():
            yield {"method": f"rule: {RULE_NAMES[rule]}", "number": total.name, "value": value}
