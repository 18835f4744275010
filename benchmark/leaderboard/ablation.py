"""One of the paper's ablation tables in the paper's layout: what each row came to here, over its seeds, beside what the paper says.

Numbers of other data are other numbers; what can be compared is the order of the rows, and it is said how far the two orders agree.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from benchmark.leaderboard.tables import auc_cell
from benchmark.report.frames import write_table
from benchmark.report.latex import latex
from benchmark.report.markdown import table_lines
from benchmark.report.number_format import p_number, percent, points, points_interval
from benchmark.report.tables import Cell, Table
from benchmark.stats.seeds import OverSeeds, corrected, difference_over_seeds, number_over_seeds
from mgll.evaluation.comparing import side_of
from mgll.evaluation.reading import Reading
from mgll.files import write_text
from mgll.training.ablation_tables import AblationTable

DISCLAIMER = "Research use only, not for diagnosis."
_GROUPS = (("", 2), ("Linear probe, here", 4), ("Linear probe, paper (%)", 3), ("Fully fine-tuned, paper (%)", 3))
_COLUMNS = ("Row", "Seeds", "AUC", "ACC", "mAP", "AUC less the first row's", *("AUC", "ACC", "mAP") * 2)


@dataclass(frozen=True)
class RowResult:
    """What one row came to.

    Attributes:
        found: its macro AUC over seeds.
        accuracy: mean over seeds, as `mgll.evaluation.metrics` defines it.
        average_precision: likewise.
        behind: macro AUC less that of the table's first row; None for the first row, or where that is not done.
    """

    found: OverSeeds
    accuracy: float
    average_precision: float
    behind: OverSeeds | None


@dataclass(frozen=True)
class AblationResult:
    """A table with the results of those of its rows that are done.

    Attributes:
        table: the table with the paper's numbers.
        rows: name of a row -> its result.
        notes: what else there is to say, a sentence each.
    """

    table: AblationTable
    rows: Mapping[str, RowResult]
    notes: tuple[str, ...]


def ablation_result(table: AblationTable, readings: Mapping[str, Sequence[Reading]], split: str) -> AblationResult:
    """Put the readings of the probe together, row by row.

    Args:
        table: the ablation table.
        readings: name of a row -> the probe's reading of the tower of each seed, all on the same images and classes.
        split: what they were read on.

    Raises:
        ValueError: if the readings differ in images or classes.
    """
    sides = {name: side_of(readings[name]) for name in table.rows if readings.get(name)}
    first = next(iter(table.rows))
    gaps = {}
    for name, side in sides.items():
        if first in sides and name != first:
            side_of([readings[first][0], readings[name][0]])  # the same images and classes
            gaps[name] = difference_over_seeds(
                [sides[first].values, side.values], [sides[first].influence, side.influence]
            )
    found = {}
    for name, side in sides.items():
        summaries = [reading.summary() for reading in readings[name]]
        found[name] = RowResult(
            number_over_seeds(side.values, side.influence),
            float(np.mean([summary.accuracy for summary in summaries])),
            float(np.mean([summary.average_precision for summary in summaries])),
            gaps.get(name),
        )
    return AblationResult(table, found, tuple(_notes(table, found, readings, split)))


def _notes(
    table: AblationTable, found: Mapping[str, RowResult], readings: Mapping[str, Sequence[Reading]], split: str
) -> list[str]:
    said = []
    if done := next((own for own in readings.values() if own), None):
        classes = f"{len(done[0].classes)} class{'es' * (len(done[0].classes) != 1)}"
        paper = f"; paper: {table.data}" if table.data else ""
        said.append(f"Read on {len(done[0].images):,} images of {split}, {classes}{paper}.")
    both = [(row.found.estimate.value, told[0]) for name, row in found.items() if (told := table.rows[name].probe)]
    if len(both) > 2:
        tau = kendalltau(*zip(*both, strict=True))
        said.append(
            f"Order of {len(both)} rows by AUC, here and in the paper: Kendall's tau {tau.statistic:.2f},"
            f" p {p_number(tau.pvalue)}."
        )
    if missing := [name for name in table.rows if name not in found]:
        said.append(f"Not done, or nothing could be read: {'; '.join(missing)}.")
    if any(row.found.runs[0] == 1 for row in found.values()):
        said.append("With one seed a row is one set of weights: its interval takes patients alone as random.")
    if any(row.probe or row.tuned for row in table.rows.values()):
        said.append("Other data, other numbers: what can be compared is the order of the rows.")
    return said


def result_table(result: AblationResult) -> Table:
    """The table: a row's numbers here, then the paper's for the probe and after fine-tuning."""
    done = {name: row for name, row in result.rows.items() if row.behind}
    p = dict(zip(done, corrected([row.behind.p for row in done.values() if row.behind]), strict=True))
    rows = []
    for name, own in result.table.rows.items():
        paper = [Cell("–" if value is None else f"{value:.2f}") for value in (*_told(own.probe), *_told(own.tuned))]
        row = result.rows.get(name)
        if row is None:
            rows.append((Cell(name), *(Cell("–"),) * 5, *paper))
            continue
        gap = row.behind.estimate if row.behind else None
        told = f"{points_interval(gap)}; p {p_number(p[name])}" if gap else ""
        behind = Cell(points(gap.value), told) if gap else Cell("–")
        numbers = [auc_cell(row.found.estimate), Cell(percent(row.accuracy)), Cell(percent(row.average_precision))]
        rows.append((Cell(name), Cell(str(row.found.runs[0])), *numbers, behind, *paper))
    best = max(result.rows, key=lambda name: result.rows[name].found.estimate.value, default=None)
    strong = frozenset([list(result.table.rows).index(best)]) if best else frozenset()
    return Table(_COLUMNS, tuple(rows), strong)


def _told(numbers: tuple[float, float, float] | None) -> Sequence[float | None]:
    """What the paper reports of a row; three times None where it reports nothing."""
    return numbers or (None,) * 3


def result_frame(result: AblationResult) -> pd.DataFrame:
    """A line for every row that is done; shares are fractions, the paper's numbers per cent."""
    return pd.DataFrame(
        {
            "row": name,
            "seeds": row.found.runs[0],
            "macro_auc": row.found.estimate.value,
            "low": row.found.estimate.low,
            "high": row.found.estimate.high,
            "by_seed": " ".join(f"{value:.4f}" for value in row.found.by_run),
            "accuracy": row.accuracy,
            "average_precision": row.average_precision,
            **dict(zip(("paper_auc", "paper_acc", "paper_map"), _told(result.table.rows[name].probe), strict=True)),
            **dict(
                zip(
                    ("paper_tuned_auc", "paper_tuned_acc", "paper_tuned_map"),
                    _told(result.table.rows[name].tuned),
                    strict=True,
                )
            ),
        }
        for name, row in result.rows.items()
    )


def markdown(result: AblationResult) -> str:
    """The result as Markdown; the columns say which numbers are the paper's."""
    table = result_table(result)
    named = [*table.columns[:6], *(f"{name}, paper" for name in table.columns[6:9])]
    named += [f"{name} fine-tuned, paper" for name in table.columns[9:]]
    lines = [f"# {heading(result)}", "", f"**{DISCLAIMER}**", ""]
    lines += [*table_lines(Table(tuple(named), table.rows, table.strong)), "", *(f"- {note}" for note in result.notes)]
    return "\n".join([*lines, ""])


def heading(result: AblationResult) -> str:
    """What is varied, and, if it is one of the paper's, in which table."""
    title, paper = result.table.title, result.table.paper
    return f"{title[:1].upper()}{title[1:]}" + (f" ({paper} of the paper)" if paper else "")


def page(result: AblationResult) -> str:
    """The result as one HTML page that loads nothing."""
    # here, because jinja2 takes a moment to import
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    loader: Any = FunctionLoader(_own_file)
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("ablation.html")
    return made.render(
        css=Markup(_own_file("report.css") + _own_file("ablation.css")),  # our own files, unescaped
        heading=heading(result),
        of_paper=bool(result.table.paper),
        disclaimer=DISCLAIMER,
        groups=_GROUPS,
        table=result_table(result),
        notes=result.notes,
    )


def write_ablation(out: str | os.PathLike[str], result: AblationResult) -> Path:
    """Write `summary.html`, `.md`, `.tex` and `summary.csv` (`.parquet`) into a folder; returns the page's path."""
    folder = Path(out)
    write_table(folder / "summary", result_frame(result))
    write_text(folder / "summary.md", markdown(result))
    write_text(folder / "summary.tex", latex(result_table(result), heading(result)))
    write_text(folder / "summary.html", page(result))
    return folder / "summary.html"


def _own_file(name: str) -> str:
    room = "leaderboard" if name.startswith("ablation") else "report"
    return (files(f"benchmark.{room}") / "templates" / name).read_text(encoding="utf-8")
