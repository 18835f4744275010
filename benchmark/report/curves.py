"""Curves of training as SVG, a drawing for each method; styles are in `templates/drawings.css`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from mgll.tower.curve import Curve

_WIDTH, _HEIGHT = 300, 130


@dataclass(frozen=True)
class Figure:
    """A drawing, what it is called, and what stands below it."""

    name: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """Drawings that share a key: (what a colour means, the colour's number)."""

    heading: str
    key: tuple[tuple[str, int], ...]
    figures: tuple[Figure, ...]


def curve_panel(curves: Mapping[str, Sequence[Curve]]) -> Panel:
    """The loss of every run and its terms, a drawing for each method."""
    terms = list(dict.fromkeys(term for runs in curves.values() for run in runs for term in run.terms))
    numbers = {term: number for number, term in enumerate(terms)}
    figures = []
    for method, runs in curves.items():
        last = max(run.steps[-1] for run in runs)
        top = max(max(values) for run in runs for values in run.terms.values()) or 1.0
        said = "; ".join(
            f"{run.terms['loss'][0]:.3g} to {run.terms['loss'][-1]:.3g}" for run in runs if "loss" in run.terms
        )
        note = f"{last:,} steps; loss {said}"
        figures.append(Figure(method, _lines(runs, numbers, last, top, f"{method}: {note}"), note))
    return Panel(
        "Training", tuple((term.replace("_", " "), number) for term, number in numbers.items()), tuple(figures)
    )


def _lines(runs: Sequence[Curve], numbers: Mapping[str, int], last: int, top: float, label: str) -> Markup:
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts += [f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}"/>' for y in (4, _HEIGHT - 2)]
    parts += [_line(run.steps, values, numbers[term], last, top) for run in runs for term, values in run.terms.items()]
    return Markup("".join([*parts, "</svg>"]))


def _line(steps: Sequence[int], values: Sequence[float], number: int, last: int, top: float) -> str:
    def place() -> Iterator[str]:
        for step, value in zip(steps, values, strict=True):
            if np.isfinite(value):
                yield f"{step / last * _WIDTH:.1f},{_HEIGHT - 2 - max(value, 0.0) / top * (_HEIGHT - 6):.1f}"

    return f'<polyline class="curve c{number}" points="{" ".join(place())}"/>'
