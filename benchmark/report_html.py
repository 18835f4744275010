"""The report as one HTML page that loads nothing: styles, script, plots and images are inside it."""

import base64
import io
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from benchmark.case_images import open_case_image
from benchmark.cases import Case
from benchmark.prompts import LETTERS
from benchmark.report import OUTCOMES, Report, ShownCase
from benchmark.report_tables import (
    class_lines,
    disease_name,
    histogram,
    interval,
    percent,
    points,
    source_lines,
    total_lines,
)
from benchmark.report_text import answer, headline, looking, method, record, verdict

#: Longest side of an embedded image, in pixels, and its JPEG quality: 60 images stay near 2 MB.
IMAGE_SIDE, JPEG_QUALITY = 448, 82


def page(report: Report) -> str:
    """The report as HTML.

    Raises:
        ImageError: if an image to embed is missing or has changed.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "points": points,
        "interval": interval,
        "x": lambda fraction: f"{100 * fraction:.2f}%",
        "disease": disease_name,
        "outcome": OUTCOMES.__getitem__,
        "count": lambda n: f"{n:,}",
    }
    return environment.from_string(_own_file("report.html")).render(
        css=Markup(_own_file("report.css")),  # our own files: the only text that enters unescaped
        js=Markup(_own_file("report.js")),
        letters=LETTERS,
        title=f"{headline(report)} – fundus multiple choice",
        headline=headline(report),
        answer=answer(report),
        verdict=verdict(report),
        looking=looking(report),
        notes=list(report.notes),
        before=report.before,
        after=report.after,
        blind=report.blind,
        floor=report.floor.overall,
        class_lines=class_lines(report),
        total_lines=total_lines(report),
        source_lines=source_lines(report),
        histogram=list(histogram(report)),
        selection=_selection(report),
        shown=[_shown(item) for item in report.shown],
        codes=_counts([item.case.code for item in report.shown], list(report.after.classes)),
        outcomes=_counts([item.outcome for item in report.shown], list(OUTCOMES)),
        method=list(method(report)),
        records=[(role, list(record(header))) for role, header in report.headers.items()],
    )


def _shown(item: ShownCase) -> dict[str, Any]:
    image, size = _embedded(item.case)
    options = [
        {
            "letter": LETTERS[index],
            "name": name,
            "true": index == item.case.answer,
            "answers": [
                {"side": side, "probability": row.probability(index), "chosen": index == row.chosen}
                for side, row in (("before", item.before), ("after", item.after))
                if row
            ],
        }
        for index, name in enumerate(item.case.options)
    ]
    return {"case": item.case, "outcome": item.outcome, "image": image, "size": size, "options": options}


def _embedded(case: Case) -> tuple[str, tuple[int, int]]:
    image = open_case_image(case)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode(), image.size


def _selection(report: Report) -> str:
    shown, n = [item.outcome for item in report.shown], report.after.overall.n
    if len(shown) == n:
        return f"All {n:,} questions."
    parts = [f"{shown.count(name)} of {count} {OUTCOMES[name].lower()}" for name, count in report.outcomes.items()]
    return f"{len(shown)} of {n:,} questions, drawn by a fixed rule and spread over the diseases: {', '.join(parts)}."


def _counts(values: list[str], order: list[str]) -> list[tuple[str, int]]:
    return [(value, values.count(value)) for value in order if value in values]


def _own_file(name: str) -> str:
    return (files("benchmark") / name).read_text(encoding="utf-8")
