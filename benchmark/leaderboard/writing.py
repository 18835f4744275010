"""Write a leaderboard: one page, Markdown, LaTeX, two tables of numbers, and a card for each method."""

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmark.cases.markdown_text import markdown_code, markdown_text
from benchmark.leaderboard.content import Board
from benchmark.leaderboard.pictures import Pictures, panels, places_drawing
from benchmark.leaderboard.tables import (
    class_frame,
    class_table,
    entry_frame,
    main_table,
    manifests,
    numbers_table,
    rank_note,
    rank_table,
    read_on,
    retrieval_table,
    sentences,
    source_table,
)
from benchmark.report.curves import curve_panel
from benchmark.report.figure_files import curve_drawing, write_figures
from benchmark.report.frames import write_table
from benchmark.report.latex import latex_of
from benchmark.report.markdown import table_lines
from benchmark.report.number_format import class_name, interval, percent
from benchmark.report.tables import Table
from benchmark.report.workbook import write_workbook
from mgll.files import write_text

DISCLAIMER = "Research use only, not for diagnosis."
STAR = (
    "Macro AUC with 95 % intervals. A star marks what is not told apart from the best of its column (p of 0.05 or more after Holm's"
    " correction over the methods). That is no proof of being as good: look at the interval."
)
#: How the numbers are made, in the page and the Markdown.
METHOD = (
    (
        "Probe",
        "One logistic regression against the rest for each class (scikit-learn) on frozen features of mean 0 and variance 1. Its"
        " strength C is the one of a grid, the same for every tower, with the best macro AUC on other patients' images.",
    ),
    (
        "k-NN",
        "Nearest training images by cosine (20, unless --neighbours says otherwise), weighed by exp(cosine / 0.07).",
    ),
    (
        "Few labels",
        "The probe with the labels of so many of the training patients, a mean over seeded draws, the same for every tower.",
    ),
    (
        "Unseen sources",
        "Fitted on all sources but one and read on that one, a mean over them: a tower that knows cameras apart loses here.",
    ),
    (
        "Attentive probe, fine-tuned, CoOp and KgCoOp",
        "Where they were asked for: one learned query over the frozen grid; the tower trained from its probe on; a learned context"
        " in front of class names with few labels. Other patients' images end each of them.",
    ),
    ("Zero-shot", "Classes by their texts, with what the tower was trained against texts with; no label is used."),
    (
        "Retrieval",
        "Among all images that are read and all their different texts. Text R@5: images with one of their own texts among the five"
        " nearest; image R@5: texts with one of their own images there; median ranks of the nearest own ones. A mean over runs.",
    ),
    (
        "Features seen from above",
        "t-SNE (scikit-learn) of the features, at mean 0 and variance 1, of images that are read, the same for every tower. It"
        " shows whether findings or cameras lie together and measures nothing; distances between clusters mean little.",
    ),
    (
        "Intervals",
        "An AUC is to first order a sum over patients (DeLong, Obuchowski). With several runs of a method seeds and patients are"
        " both random; with one run only patients are, and nothing is said of another seed.",
    ),
    (
        "Numbers",
        "mAP: mean over classes of the average precision. ACC: images with several classes, mean over classes of the share on the"
        " right side of one half; images with one class each, share whose highest score is right. Sensitivity at a specificity of"
        " at least 90 %. ECE: expected calibration error in 15 bins. All are means over classes of equal weight.",
    ),
)


def write_board(
    out: str | os.PathLike[str],
    board: Board,
    pictures: Pictures | None = None,
    about: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write `leaderboard.html`, `.md`, `.tex`, `.xlsx`, `results` and `classes` (`.csv`, `.parquet`), `figures/` and `cards/`.

    Returns the path of the page.

    Args:
        out: the folder.
        board: what is said.
        pictures: what is drawn on the page.
        about: method -> what its towers' files say of them, a sentence each, for the cards.
    """
    folder = Path(out)
    write_table(folder / "results", entry_frame(board))
    write_table(folder / "classes", class_frame(board))
    write_text(folder / "leaderboard.md", markdown(board))
    tables = _result_tables(board)
    write_text(folder / "leaderboard.tex", latex_of(tables))
    write_workbook(folder / "leaderboard.xlsx", tables)
    write_figures(folder / "figures", _figures(pictures or Pictures(), board))
    taken: set[str] = set()
    for method in board.ranks:
        safe = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in method)
        while safe.lower() in taken:  # two names that differ in other letters alone
            safe += "_"
        taken.add(safe.lower())
        write_text(folder / "cards" / f"{safe}.md", card(board, method, (about or {}).get(method, ())))
    write_text(folder / "leaderboard.html", page(board, pictures or Pictures()))
    return folder / "leaderboard.html"


def _result_tables(board: Board) -> dict[str, Table]:
    """Name -> table, of every manifest, for LaTeX and Excel."""
    return {f"{name}: {heading}": table for name in manifests(board) for heading, table in _tables(board, name)}


def _figures(pictures: Pictures, board: Board) -> dict[str, str]:
    """Name -> drawing as an SVG of its own: every picture of the page."""
    found = {}
    for name, embeddings in pictures.embeddings.items():
        for method, embedding in embeddings.items():
            for by in ("kinds", "sources"):
                drawn = places_drawing(f"{name}, {method}", embedding, by, board.class_table(name))
                found[f"features-{name}-{method}-by-{'class' if by == 'kinds' else 'source'}"] = drawn
    return found | {f"training-{method}": curve_drawing(method, runs) for method, runs in pictures.curves.items()}


def markdown(board: Board) -> str:
    """The board as Markdown."""
    lines = ["# Towers side by side", "", f"**{DISCLAIMER}**", "", STAR, ""]
    for name in manifests(board):
        lines += [f"## {markdown_text(name)}", "", read_on(board, name), ""]
        for heading, table in _tables(board, name):
            lines += [f"### {heading}", "", *table_lines(table), ""]
        if left := _not_read(board, name):
            lines += ["Not read: " + "; ".join(f"{markdown_text(c)}: {why}" for c, why in left) + ".", ""]
    lines += ["## Ranks", "", *table_lines(rank_table(board)), "", rank_note(board), ""]
    lines += ["## How the numbers are made", "", *(f"- **{term}.** {text}" for term, text in METHOD), ""]
    if board.said:
        lines += [
            "## What else there is to say",
            "",
            *(f"- {markdown_text(sentence)}" for sentence in sentences(board)),
            "",
        ]
    return "\n".join(lines)


def card(board: Board, method: str, about: Sequence[str] = ()) -> str:
    """What is known of one method: its towers, what their files say, and each of its numbers."""
    lines = [f"# {markdown_text(method)}", "", f"**{DISCLAIMER}**", "", "Towers, by the SHA-256 of their weights:", ""]
    lines += [f"- {markdown_code(digest)}" for digest in board.digests[method]]
    lines += ["", *(f"- {markdown_text(sentence)}" for sentence in about)] if about else []
    for name in manifests(board):
        lines += [
            "",
            f"## {markdown_text(name)}",
            "",
            "| reading | macro AUC | 95 % interval | rank |",
            "|---|---:|---:|---:|",
        ]
        lines += [
            f"| {entry.reading} | {percent(entry.found.estimate.value)} | {interval(entry.found.estimate)} | {entry.rank} |"
            for entry in board.entries
            if (entry.manifest, entry.method) == (name, method)
        ]
    own = [f"{note.manifest}: {note.sentence}" for note in board.said if method in note.methods]
    return "\n".join([*lines, "", *(f"- {markdown_text(sentence)}" for sentence in own), ""])


def page(board: Board, pictures: Pictures | None = None) -> str:
    """The board as one HTML page that loads nothing."""
    # here, because jinja2 takes a moment to import
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    loader: Any = FunctionLoader(_own_file)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count_of"] = "{:,}".format
    made = environment.get_template("leaderboard.html")
    drawn = pictures or Pictures()
    sections = [
        {
            "name": name,
            "read_on": read_on(board, name),
            "tables": list(_tables(board, name)),
            "left_out": _not_read(board, name),
            "panels": panels(drawn.embeddings[name], board.class_table(name)) if drawn.embeddings.get(name) else (),
            "images": next(((len(e.kinds), e.images) for e in drawn.embeddings.get(name, {}).values()), None),
        }
        for name in manifests(board)
    ]
    return made.render(
        css=Markup(
            "".join(map(_own_file, ("report.css", "drawings.css", "leaderboard.css")))
        ),  # our own files, unescaped
        js=Markup(_own_file("leaderboard.js")),
        disclaimer=DISCLAIMER,
        star=STAR,
        sections=sections,
        ranks=rank_table(board),
        rank_note=rank_note(board),
        curves=curve_panel(drawn.curves) if drawn.curves else None,
        without_curve=[method for method in board.ranks if method not in drawn.curves],
        method=METHOD,
        said=sentences(board),
    )


def _tables(board: Board, manifest: str) -> list[tuple[str, Table]]:
    tables = [
        ("Macro AUC by way of reading", main_table(board, manifest)),
        ("Linear probe", numbers_table(board, manifest)),
    ]
    if sources := source_table(board, manifest):
        tables.append(("Macro AUC on each source, fitted on all others", sources))
    if found := retrieval_table(board, manifest):
        tables.append(("Retrieval between images and texts", found))
    return [*tables, ("Linear probe, AUC by class", class_table(board, manifest))]


def _not_read(board: Board, manifest: str) -> list[tuple[str, str]]:
    """Names of the classes that the probe did not read, each with the reason."""
    left = board.left_out.get(manifest, {})
    return [(class_name(code, board.class_table(manifest)), why) for code, why in left.items()]


def _own_file(name: str) -> str:
    room = "leaderboard" if name.startswith("leaderboard") else "report"
    return (files(f"benchmark.{room}") / "templates" / name).read_text(encoding="utf-8")
