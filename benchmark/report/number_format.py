"""How numbers are printed, in every form of a report."""

import math

from benchmark.report.summary import Share
from benchmark.stats.bootstrap import Estimate
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS


def percent(value: float) -> str:
    """0.613 -> `61.3 %` (with a narrow space that does not break)."""
    return "–" if math.isnan(value) else f"{_rounded(value)}\u202f%"


def points(value: float) -> str:
    """0.063 -> `+6.3`, a difference in percentage points."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:+.1f}".replace("-", "−").replace("−0.0", "0.0").replace("+0.0", "0.0")


def interval(share: Share | Estimate) -> str:
    """Ends of an interval: `56.9 to 65.6`."""
    return "–" if math.isnan(share.low) else f"{_rounded(share.low)} to {_rounded(share.high)}"


def points_interval(estimate: Estimate) -> str:
    """Ends of a difference's interval: `+1.2 to +11.4`."""
    return "–" if math.isnan(estimate.low) else f"{points(estimate.low)} to {points(estimate.high)}"


def p_value(p: float) -> str:
    """`p = 0.012`, `p < 0.001` (with spaces that do not break)."""
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p_number(p)}"


def p_number(p: float) -> str:
    """`0.012`, `<0.001`; a dash where nothing was tested."""
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def middle_cut(name: str, length: int) -> str:
    """A name of at most so many characters, an ellipsis for its middle: versions stand at the end. What can't be printed is `?`."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(shown) <= length:
        return shown
    start = length // 2
    return f"{shown[:start]}…{shown[len(shown) - (length - 1 - start) :]}"


def class_name(code: str, table: ClassTable = FUNDUS) -> str:
    """Name of a class; the code itself where the table has no such class."""
    return table.classes[code].name if code in table.classes else code


def _rounded(value: float) -> str:
    """A share in per cent with one digit, and no sign at zero."""
    return f"{100 * value:.1f}".replace("-", "−").replace("−0.0", "0.0")
