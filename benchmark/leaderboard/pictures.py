"""Pictures of a leaderboard as SVG: features seen from above, by class and by source; `benchmark.report.curves` draws training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from markupsafe import Markup, escape

from benchmark.report.curves import Figure, Panel
from benchmark.report.drawing import KEY, key, svg
from benchmark.report.number_format import class_name
from mgll.evaluation.embedding import OTHER, SEVERAL, Embedding
from mgll.tower.curve import Curve
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

_SIDE = 240


@dataclass(frozen=True)
class Pictures:
    """What there is to draw.

    Attributes:
        embeddings: manifest -> method -> the places of images under its first tower.
        curves: method -> the training curve of each tower that has one.
    """

    embeddings: Mapping[str, Mapping[str, Embedding]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)


def panels(embeddings: Mapping[str, Embedding], classes: ClassTable = FUNDUS) -> tuple[Panel, ...]:
    """The methods of a manifest side by side, coloured by class and then, if there are several, by source."""
    found = []
    for heading, by in (("by class", "kinds"), ("by source", "sources")):
        words = {method: getattr(own, by) for method, own in embeddings.items()}
        if by == "sources" and len({word for own in words.values() for word in own}) == 1:
            continue  # one colour tells nothing
        numbers = _numbers([word for own in words.values() for word in own])
        figures = tuple(
            Figure(method, _points(own.points, words[method], numbers, f"{method}, {heading}"))
            for method, own in embeddings.items()
        )
        named = {word: _called(word, classes) if by == "kinds" else word for word in numbers}
        key = tuple((named[word], number) for word, number in numbers.items())
        found.append(Panel(heading, key, figures))
    return tuple(found)


def places_drawing(title: str, embedding: Embedding, by: Literal["kinds", "sources"], classes: ClassTable) -> str:
    """Where the images of one method lie, as an SVG of its own with its key."""
    words = getattr(embedding, by)
    numbers = _numbers(words)
    named = [(_called(word, classes) if by == "kinds" else word, number) for word, number in numbers.items()]
    places = np.round(embedding.points * (_SIDE - 8) + 4, 1)
    dots = [
        f'<circle cx="{x:g}" cy="{y:g}" r="1.7" fill="{KEY[numbers[word] % len(KEY)]}"/>'
        for (x, y), word in zip(places, words, strict=True)
    ]
    parts = [*dots, *key(named, 8, _SIDE + 20)]
    return svg(_SIDE + 120, _SIDE + 20 + 18 * len(named), f"Features seen from above: {title}", parts)


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
