"""Any number of runs side by side as one HTML page that loads nothing."""

from collections.abc import Mapping

from markupsafe import Markup

from benchmark.report.curves import curve_panel
from benchmark.report.figure_files import training_curves
from benchmark.report.html_page import environment, own_file
from benchmark.report.many import SideBySide
from benchmark.report.many_words import ABOUT, claim, headline, marks, methods_said
from benchmark.report.tables import Table


def runs_page(found: SideBySide, tables: Mapping[str, Table]) -> str:
    """The page: the answer and its figure, these tables, curves of training, the methods paragraph."""
    curves = training_curves({method.name: method.origins for method in found.methods})
    questions = f"{len(found.cases):,} questions, {len(set(found.questions.groups)):,} patients or eyes"
    return (
        environment()
        .get_template("runs.html")
        .render(
            css=Markup(own_file("report.css") + own_file("drawings.css") + own_file("runs.css")),
            title=f"{len(found.methods)} methods side by side, {questions}",
            headline=headline(found),
            claim=claim(found),
            marks=list(marks(found)),
            tables=tables,
            curves=curve_panel(curves) if curves else None,
            methods=list(methods_said(found)),
            about=ABOUT,
        )
    )
