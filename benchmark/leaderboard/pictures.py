"""Pictures of a leaderboard as SVG: features seen from above by class and by source, and the curves of training."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from benchmark.report.number_format import class_name
from mgll.evaluation.embedding import OTHER, SEVERAL, Embedding
from mgll.tower.curve import Curve
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

_SIDE = 240
_WIDTH, _HEIGHT = 300, 130


@dataclass(frozen=True)
class Pictures:
    """What there is to draw.

    Attributes:
        embeddings: manifest -> method -> the places of images under its first tower.
        curves: method -> the training curve of each tower that has one.
    """

    embeddings: Mapping[str, Mapping[str, Embedding]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)


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


def panels(embeddings: Mapping[str, Embedding], classes: ClassTable = FUNDUS) -> tuple[Panel, ...]:
    """The methods of a manifest side by side, coloured by class and then by source."""
    found = []
    for heading, by in (("by class", "kinds"), ("by source", "sources")):
        words = {method: getattr(own, by) for method, own in embeddings.items()}
        numbers = _numbers([word for own in words.values() for word in own])
        figures = tuple(
            Figure(method, _points(own.points, words[method], numbers, f"{method}, {heading}"))
            for method, own in embeddings.items()
        )
        named = {word: _called(word, classes) if by == "kinds" else word for word in numbers}
        key = tuple((named[word], number) for word, number in numbers.items())
        found.append(Panel(heading, key, figures))
    return tuple(found)


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


def _numbers(words: Sequence[str]) -> dict[str, int]:
    """Word -> number of its colour, the commonest first; what is several or other has no colour of its own."""
    common = [word for word, _ in Counter(words).most_common() if word not in (SEVERAL, OTHER)]
    numbers = {word: number for number, word in enumerate(common)}
    return numbers | {word: number for word, number in ((SEVERAL, 8), (OTHER, 9)) if word in words}


def _called(word: str, classes: ClassTable) -> str:
    return word if word in (SEVERAL, OTHER) else class_name(word, classes)


def _points(points: np.ndarray, words: Sequence[str], numbers: Mapping[str, int], label: str) -> Markup:
    places = np.round(points * (_SIDE - 8) + 4, 1)
    parts = [f'<svg viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{escape(label)}">']
    for word in reversed(list(numbers)):  # the grey ones lie below
        own = [place for place, one in zip(places, words, strict=True) if one == word]
        if own:
            parts.append(f'<path class="dots c{numbers[word]}" d="{"".join(f"M{x:g} {y:g}h0" for x, y in own)}"/>')
    return Markup("".join([*parts, "</svg>"]))


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
