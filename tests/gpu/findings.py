"""What the GPU check finds: a row of its table for each thing that was measured, with the bound that it had to keep."""

from collections.abc import Iterable
from dataclasses import dataclass

from sections import markdown, number


@dataclass(frozen=True)
class Finding:
    """A row of the table.

    Attributes:
        section: the section that measured it; filled in where the rows are gathered.
        what: what was measured.
        value: what was found, with its unit.
        bound: what it had to keep; empty where it is only shown.
        passed: whether it kept the bound; None where it is only shown.
    """

    what: str
    value: str
    bound: str = ""
    passed: bool | None = None
    section: str = ""


def shown(what: str, value: str) -> Finding:
    """A finding without a bound."""
    return Finding(what, value)


def at_most(what: str, value: float, limit: float, unit: str = "") -> Finding:
    """A finding that must not exceed its limit; NaN does not pass."""
    return Finding(what, number(value, unit), f"at most {number(limit, unit)}", value <= limit)


def near(what: str, value: float, expected: float, share: float, unit: str = "") -> Finding:
    """A finding that must be within a share of what was expected."""
    apart = value / expected - 1
    bound = f"within {share:.0%} of {number(expected, unit)}"
    return Finding(what, f"{number(value, unit)} ({apart:+.1%})", bound, abs(apart) <= share)


def holds(what: str, value: str, bound: str, passed: bool) -> Finding:
    """A finding that is right or wrong."""
    return Finding(what, value, bound, passed)


def table(findings: Iterable[Finding]) -> str:
    """The findings as a Markdown table."""
    said = {True: "ok", False: "**FAILED**", None: ""}
    cells = ((row.section, row.what, row.value, row.bound, said[row.passed]) for row in findings)
    return markdown(("section", "what", "found", "bound", ""), cells)
