"""Figures as files: each as SVG, and as PDF too where the extra `figures` is installed (vl-convert, which needs no browser)."""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmark.report.content import Report
from benchmark.report.drawing import Dot, Line, dot_plot, line_plot, matrix, share_said, square
from benchmark.report.first_screen import headline, marks
from benchmark.report.number_format import class_name
from benchmark.report.origin import Origin
from benchmark.report.tables import class_lines, total_lines
from benchmark.stats.bootstrap import Estimate
from benchmark.stats.confusion import Confusion
from mgll.files import atomic_path, write_text
from mgll.tower.curve import Curve
from mgll.vocabulary.classes import ClassTable

SHARES = {0.0: "0", 0.25: "25", 0.5: "50", 0.75: "75", 1.0: "100 %"}
GUESSING = 0.25


def figures(report: Report) -> dict[str, str]:
    """Name of a file -> the drawing as SVG: every figure of the page."""
    overview = [
        Line(mark.name, (Dot(mark.kind, mark.right),), share_said(mark.right), strong=mark.kind == "after")
        for mark in marks(report)
    ]
    by_class = [
        Line(
            line.name,
            (*((Dot("before", line.before),) if line.before else ()), Dot("after", line.after)),
            share_said(line.after),
            max(line.floors.values()),
            line.part == "total",
        )
        for line in (*class_lines(report), *total_lines(report)[:2])
    ]
    found = {
        "overview": dot_plot(headline(report), overview, SHARES, GUESSING),
        "by-class": dot_plot("Share answered correctly by class", by_class, SHARES, GUESSING),
    }
    for role, confusion in report.confusions.items():
        found[f"confusions-{role}"] = _confusions(confusion, report.table)
    if sides := _reliability(report):
        axes = ("Probability of the chosen option, in %", "Right, in %")
        found["calibration"] = square("Share right by the probability of the chosen option", sides, *axes)
    for method, runs in training_curves(report.origins).items():
        found[f"training-{method}"] = curve_drawing(method, runs)
    return found


def training_curves(origins: Mapping[str, Sequence[Origin]]) -> dict[str, list[Curve]]:
    """What was trained (`pretraining, after`, ...) -> the curve of each run that has one."""
    found: dict[str, list[Curve]] = {}
    for kind in ("pretraining", "fine-tuning"):
        for side, own in origins.items():
            if curves := [origin.curves[kind] for origin in own if kind in origin.curves]:
                found[f"{kind}, {side}"] = curves
    return found


def write_figures(folder: Path, drawn: Mapping[str, str]) -> list[Path]:
    """Write each drawing as `.svg`, and as `.pdf` where vl-convert is installed; returns the paths.

    What a file can't be called by is replaced in names.
    """
    as_pdf = find_spec("vl_convert") is not None
    written: list[Path] = []
    for name, svg in drawn.items():
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:100] or "figure"
        path = folder / f"{stem}.svg"
        if path in written:
            path = folder / f"{stem}-{len(written)}.svg"
        write_text(path, svg)
        written.append(path)
        if as_pdf:
            # here, because not everybody has it
            import vl_convert

            with atomic_path(path.with_suffix(".pdf")) as temporary:
                Path(temporary).write_bytes(vl_convert.svg_to_pdf(svg))
            written.append(path.with_suffix(".pdf"))
    return written


def curve_drawing(name: str, runs: Sequence[Curve]) -> str:
    """The curves of a method's runs as SVG, a colour for each term."""
    lines = [(term.replace("_", " "), run.steps, values) for run in runs for term, values in run.terms.items()]
    return line_plot(f"Training: {name}", lines, "step")


def _confusions(confusion: Confusion, table: ClassTable) -> str:
    """How often each class was taken for each other, of the times that both were offered; green where it is right."""
    rows = [row for row in range(len(confusion.codes)) if confusion.offered[row].any()]
    cells = []
    for row in rows:
        line = []
        for column in range(len(confusion.codes)):
            offered = confusion.offered[row, column]
            share = confusion.chosen[row, column] / offered if offered else 0.0
            line.append((f"{100 * share:.0f}" if offered else "", float(share) if row == column else -float(share)))
        cells.append(line)
    names = [class_name(confusion.codes[row], table) for row in rows]
    return matrix(
        "In % of the times offered: row, the true class; column, what was chosen", names, confusion.codes, cells
    )


def _reliability(report: Report) -> dict[str, list[tuple[float, Estimate]]]:
    found = {}
    for side, run in (("before", report.before), ("after", report.after)):
        if run and run.calibration:
            rows = run.calibration.reliability.to_dict("records")
            found[side] = [(row["confidence"], Estimate(row["accuracy"], row["low"], row["high"])) for row in rows]
    return found
