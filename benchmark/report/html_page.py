"""The report as one HTML page that loads nothing: styles, script, plots and images are inside it."""

import json
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from benchmark.report.case_browser import OUTCOMES, browser_data, outcomes, unnamed_reasons
from benchmark.report.content import Report
from benchmark.report.curves import curve_panel
from benchmark.report.figure_files import training_curves
from benchmark.report.first_screen import claim, headline, marks
from benchmark.report.methods import methods
from benchmark.report.number_format import class_name, interval, percent
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
from benchmark.report.tables import class_lines, main_table, source_table, total_lines
from benchmark.report.thumbnails import embedded_images
from benchmark.report.wording import answer, holding, looking, method, record, seeds, verdict
from benchmark.stats.bootstrap import Estimate
from benchmark.stats.calibration import Calibration
from benchmark.stats.confusion import Confusion
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: What a page may weigh, in bytes: mail and browsers take it.
LIMIT = 14_500_000

#: Pairs of diseases offered together less often stay unshaded: one confusion of one is no pattern.
SHADED = 5

#: Classes that are printed, of which more would not leave room on two pages.
PRINTED = 24

#: Replies that name no option listed on the page, of which the browser of questions finds all.
LISTED = 100


def page(report: Report, with_images: bool = True, maps: str | None = None) -> str:
    """The report as HTML.

    Args:
        report: what is said.
        with_images: whether it holds small copies of the cases' images.
        maps: where a page of maps lies, seen from the page.

    Raises:
        ImageError: if an image to embed is missing or has changed.
    """
    data = browser_data(report)
    if not with_images:
        return _render(report, data, [], "The page holds no images, as was asked.", maps)
    bare = _render(report, data, [], "", maps)
    images, side = embedded_images(report.cases, LIMIT - len(bare.encode()))
    note = f"Photographs are copies of at most {side} pixels a side."
    if len(images) < len(data["images"]):
        note += f" The page holds {len(images):,} of {len(data['images']):,}; all of them would make it too large."
    return _render(report, data, [images.get(key, "") for key in data["images"]], note, maps)


def _render(report: Report, data: dict[str, Any], images: list[str], image_note: str, maps: str | None) -> str:
    found, curves = outcomes(report), training_curves(report.origins)
    template = environment().get_template("report.html")
    return template.render(
        # our own files are the only text that enters unescaped, beside `_json`
        css=Markup(own_file("report.css") + own_file("drawings.css")),
        js=Markup(own_file("report.js")),
        cases=_json(data),
        images=_json(images),
        image_note=image_note,
        title=f"{headline(report)} – {field(report)}",
        field=field(report),
        headline=headline(report),
        claim=claim(report),
        marks=list(marks(report)),
        answer=answer(report),
        verdict=verdict(report),
        notes=list(report.notes),
        before=report.before,
        after=report.after,
        on_paper=PRINTED,
        controls=report.controls,
        seeds=seeds(report),
        seed_table=seed_table(report),
        class_lines=class_lines(report),
        total_lines=total_lines(report)[:2],
        main_table=main_table(report),
        source_table=source_table(report),
        looking=looking(report),
        control_table=control_table(report),
        letter_table=letter_table(report),
        holding=holding(report),
        reading_table=reading_table(report),
        agreement_table=agreement_table(report),
        unnamed=len(report.after.unnamed),
        listed=unnamed_reasons(report, LISTED),
        confusion_table=confusion_table(report),
        matrices=[(role, _matrix(confusion, report.table)) for role, confusion in report.confusions.items()],
        calibration_table=calibration_table(report),
        reliability_bins=_reliability(report),
        published_table=published_table(report),
        published_note=published_note(report),
        classes=[(code, class_name(code, report.table), share.n) for code, share in report.after.classes.items()],
        sources=[(name or "not stated", share.n) for name, share in report.after.sources.items()],
        outcomes=[(name, label, found.count(name)) for name, label in OUTCOMES.items() if name in found],
        curves=curve_panel(curves) if curves else None,
        sample_table=sample_table(report),
        maps=maps,
        methods=list(methods(report)),
        method=list(method(report)),
        records=[
            ("model" if role == "after" and not report.before else role, list(record(header)))
            for role, header in report.headers.items()
        ],
    )


def field(report: Report) -> str:
    """What kind of questions they are, in two or three words."""
    return "fundus multiple choice" if report.table is FUNDUS else "multiple choice"


def _matrix(confusion: Confusion, table: ClassTable) -> dict[str, Any]:
    """Rows of true classes: for each class offered beside it, how often it was chosen of how often offered, and a shade 0 to 5."""
    rows = []
    for row, true in enumerate(confusion.codes):
        if confusion.offered[row].any():
            cells = [_pair(confusion, row, column, table) for column in range(len(confusion.codes))]
            rows.append({"name": class_name(true, table), "cells": cells})
    return {"codes": confusion.codes, "rows": rows}


def _pair(confusion: Confusion, row: int, column: int, table: ClassTable) -> dict[str, Any]:
    chosen, offered = int(confusion.chosen[row, column]), int(confusion.offered[row, column])
    share = chosen / offered if offered else 0.0
    return {
        "other": class_name(confusion.codes[column], table),
        "chosen": chosen,
        "offered": offered,
        "share": round(100 * share),
        "right": row == column,
        "shade": ceil(5 * share) if offered >= SHADED else 0,
    }


def _reliability(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """Side -> the bins of its reliability plot."""

    def bins(calibration: Calibration) -> list[dict[str, Any]]:
        rows = calibration.reliability.to_dict("records")
        return [
            {
                "n": row["n"],
                "confidence": row["confidence"],
                "right": Estimate(row["accuracy"], row["low"], row["high"]),
            }
            for row in rows
        ]

    sides = (("before", report.before), ("after", report.after))
    return [(side, bins(run.calibration)) for side, run in sides if run and run.calibration]


def _json(value: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it can end that."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache  # a page is rendered twice, and its template compiled once
def environment() -> Environment:
    """Where the templates of pages are found, with the filters that they use."""
    found = Environment(
        loader=FunctionLoader(own_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent,
        "interval": interval,
        "x": lambda fraction: f"{100 * fraction:.2f}%",
        "count": lambda n: f"{n:,}",
    }
    return found


def own_file(name: str) -> str:
    """The text of a file in `templates`."""
    return (files("benchmark.report") / "templates" / name).read_text(encoding="utf-8")
