"""Drawings as SVG files of their own, for papers and slides: dots with intervals, shaded matrices, lines, a square.

Text stays text, the colours are those of the printed page, and the background is left to the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import escape

from benchmark.report.number_format import interval, middle_cut, percent
from benchmark.stats.bootstrap import Estimate

INK, MUTED, RULE, FAINT = "#1c1e21", "#555a60", "#b9b3a8", "#e4e0d8"
#: What a dot is -> its colour, and whether it is filled.
DOTS: Mapping[str, tuple[str, bool]] = {
    "before": ("#6d737b", False),
    "after": ("#0a6b70", True),
    "control": (MUTED, False),
    "rule": (INK, True),
}
GAIN, LOSS = "#2c7347", "#ad3f27"
#: Colours that the colour-blind tell apart (Okabe and Ito), for what has a key; then two greys for what is several or other.
KEY = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7b5ea7", INK, "#6d737b")

#: Columns of a dot plot, in pixels: names, chart, figures; letters that fit the first.
_NAMES, _CHART, _FIGURES, _LETTERS = 230, 330, 150, 36
_LINE, _SIDE = 24, 260


@dataclass(frozen=True)
class Dot:
    """A value with its interval (NaN for none), as a kind of `DOTS`; `rule` is drawn as a stroke."""

    kind: str
    at: Estimate


@dataclass(frozen=True)
class Line:
    """A line of a dot plot: its name, its dots from above, what is written at its end, a stroke for a floor, whether it is bold."""

    name: str
    dots: tuple[Dot, ...]
    said: str = ""
    floor: float | None = None
    strong: bool = False


def dot_plot(title: str, lines: Sequence[Line], ticks: Mapping[float, str], reference: float) -> str:
    """Lines of dots with intervals over one axis.

    Args:
        title: what the drawing is, for those who do not see it.
        lines: from above.
        ticks: value -> how it is written; the first and the last are the ends of the axis.
        reference: where the dotted line stands.
    """
    low, high = min(ticks), max(ticks)

    def x(value: float) -> float:
        return _NAMES + _CHART * (min(max(value, low), high) - low) / (high - low)

    height = 30 + _LINE * len(lines)
    parts = [_text(x(tick), 16, said, "middle", MUTED) for tick, said in ticks.items()]
    parts += [_stroke(x(tick), 26, x(tick), height, FAINT) for tick in ticks]
    parts.append(_stroke(x(reference), 26, x(reference), height, MUTED, dashes=True))
    for number, line in enumerate(lines):
        top = 28 + _LINE * number
        parts.append(_stroke(0, top, _NAMES + _CHART + _FIGURES, top, FAINT))
        parts.append(_text(0, top + 16, middle_cut(line.name, _LETTERS), weight=line.strong))
        if line.floor is not None:
            parts.append(_stroke(x(line.floor), top + 6, x(line.floor), top + _LINE - 6, INK, 2))
        for place, dot in enumerate(line.dots, 1):
            parts += _dot(dot, x, top + _LINE * place / (len(line.dots) + 1))
        parts.append(_text(_NAMES + _CHART + 16, top + 16, line.said, weight=line.strong))
    return svg(_NAMES + _CHART + _FIGURES, height, title, parts)


def matrix(
    title: str, names: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """A shaded table.

    Args:
        title: what the drawing is, for those who do not see it.
        names: of the rows.
        columns: their headings, written upwards.
        cells: row by row, what stands in a cell, and a shade from -1 (red) to 1 (green).
    """
    side, top = 26, 20 + 7 * max((min(len(name), 24) for name in columns), default=0)
    width, height = _NAMES + side * len(columns), top + 20 * len(names)
    parts = []
    for column, name in enumerate(columns):
        place = _NAMES + side * column + 17
        parts.append(_text(place, top - 8, middle_cut(name, 24), turned=True))
    for row, name in enumerate(names):
        y = top + 20 * row
        parts.append(_text(0, y + 14, middle_cut(name, _LETTERS)))
        for column, (said, shade) in enumerate(cells[row]):
            if shade:
                place, colour = _NAMES + side * column, GAIN if shade > 0 else LOSS
                opacity = f"{0.5 * abs(shade):.2f}"
                parts.append(
                    f'<rect x="{place}" y="{y}" width="{side}" height="20" fill="{colour}" fill-opacity="{opacity}"/>'
                )
            parts.append(_text(_NAMES + side * (column + 0.5), y + 14, said, "middle", size=10))
    return svg(width, height, title, parts)


def square(title: str, sides: Mapping[str, Sequence[tuple[float, Estimate]]], across: str, upwards: str) -> str:
    """Shares against shares, with the diagonal on which both are equal.

    Args:
        title: what the drawing is, for those who do not see it.
        sides: kind of dot -> (place across, estimate upwards) of each.
        across: what the axis across is.
        upwards: what the axis upwards is.
    """
    left, top = 50, 10

    def x(value: float) -> float:
        return left + _SIDE * value

    def y(value: float) -> float:
        return top + _SIDE * (1 - value)

    parts = [_stroke(x(0), y(0), x(1), y(1), MUTED, dashes=True)]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts += [_stroke(x(tick), y(0), x(tick), y(1), FAINT), _stroke(x(0), y(tick), x(1), y(tick), FAINT)]
        parts.append(_text(x(tick), y(0) + 18, f"{100 * tick:.0f}", "middle", MUTED))
        parts.append(_text(left - 8, y(tick) + 4, f"{100 * tick:.0f}", "end", MUTED))
    for kind, points in sides.items():
        for place, at in points:
            parts.append(_stroke(x(place), y(at.low), x(place), y(at.high), DOTS[kind][0], 2))
            parts.append(_circle(x(place), y(at.value), kind))
    parts.append(_text(x(0.5), y(0) + 38, across, "middle"))
    parts.append(_text(14, y(0.5), upwards, "middle", turned=True))
    return svg(left + _SIDE + 20, top + _SIDE + 50, title, parts)


def line_plot(title: str, lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], across: str) -> str:
    """Lines over one axis from 0 on, with a key; lines of one name share a colour.

    Args:
        title: what the drawing is, for those who do not see it.
        lines: name, places across and values upwards of each; a value that is not finite breaks nothing and is left out.
        across: what the axis across is.
    """
    points = [
        (name, [(x, y) for x, y in zip(places, values, strict=True) if isfinite(y)]) for name, places, values in lines
    ]
    far = max((x for _, own in points for x, _ in own), default=1.0) or 1.0
    high = max((y for _, own in points for _, y in own), default=1.0) or 1.0
    left, width, height = 50, 380, 200
    parts = []
    for share in (0.0, 0.5, 1.0):
        y, x = 10 + height * (1 - share), left + width * share
        parts += [_stroke(left, y, left + width, y, FAINT), _text(left - 8, y + 4, f"{high * share:.3g}", "end", MUTED)]
        parts.append(_text(x, height + 28, f"{far * share:,.0f}", "middle", MUTED))
    parts.append(_text(left + width / 2, height + 46, across, "middle"))
    names = list(dict.fromkeys(name for name, _ in points))
    for name, own in points:
        placed = (f"{left + width * x / far:.1f},{10 + height * (1 - max(y, 0) / high):.1f}" for x, y in own)
        colour = KEY[names.index(name) % 8]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(placed)}"/>')
    parts += key([(name, number % 8) for number, name in enumerate(names)], left, height + 70)
    return svg(left + width + 20, height + 66 + 18 * len(names), title, parts)


def key(entries: Sequence[tuple[str, int]], x: float, y: float) -> list[str]:
    """What each colour of `KEY` means, a line each from (x, y) down."""
    found = []
    for line, (name, number) in enumerate(entries):
        found.append(
            f'<rect x="{x:g}" y="{y + 18 * line - 9:g}" width="10" height="10" fill="{KEY[number % len(KEY)]}"/>'
        )
        found.append(_text(x + 16, y + 18 * line, middle_cut(name, 60)))
    return found


def share_said(share: Estimate) -> str:
    """A share with its interval, as it stands at the end of a line."""
    return percent(share.value) + ("" if share.low != share.low else f" ({interval(share)})")


def _dot(dot: Dot, x: Callable[[float], float], y: float) -> list[str]:
    if dot.at.value != dot.at.value:
        return []
    colour, place = DOTS[dot.kind][0], x(dot.at.value)
    if dot.kind == "rule":
        return [_stroke(place, y - 7, place, y + 7, colour, 3)]
    span = [_stroke(x(dot.at.low), y, x(dot.at.high), y, colour, 2)] if dot.at.low == dot.at.low else []
    return [*span, _circle(place, y, dot.kind)]


def _circle(x: float, y: float, kind: str) -> str:
    colour, filled = DOTS[kind]
    inside = colour if filled else "#ffffff"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{inside}" stroke="{colour}" stroke-width="1.8"/>'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dashes: bool = False) -> str:
    broken = ' stroke-dasharray="2 3"' if dashes else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"{broken}/>'


def _text(
    x: float,
    y: float,
    said: str,
    anchor: str = "start",
    colour: str = INK,
    weight: bool = False,
    turned: bool = False,
    size: int = 12,
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    bold = ' font-weight="600"' if weight else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}{bold}{turn}>{escape(said)}</text>"


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A whole file of these parts."""
    size = f'width="{width:g}" height="{height:g}" viewBox="-4 0 {width + 8:g} {height + 4:g}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="Helvetica, Arial, sans-serif">'
    return "\n".join([start, f"<title>{escape(title)}</title>", *parts, "</svg>", ""])
