"""The first screen of the page: the answer in one sentence, what it is about, and one figure with the rules that do not look."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

from benchmark.cases.floor import RULE_NAMES
from benchmark.report.content import ControlRole, Report
from benchmark.report.number_format import interval, middle_cut, p_value, percent, points, points_interval
from benchmark.report.side_tables import CONTROL_NAMES, RULES
from benchmark.report.summary import RunSummary
from benchmark.stats.bootstrap import Estimate

#: Longest name of a model in the sentence, in characters.
NAME = 40


@dataclass(frozen=True)
class Mark:
    """One line of the figure.

    Attributes:
        name: what was asked, or the rule.
        kind: `before`, `after`, `control`, or `rule` for what never sees an image.
        right: share of the questions answered correctly; a rule has no interval.
        about: what a rule picks; empty for a model.
    """

    name: str
    kind: str
    right: Estimate
    about: str = ""


def headline(report: Report) -> str:
    """The finding in one sentence, without a full stop."""
    change, after = report.change, report.after
    asked = f"{after.overall.n:,} questions"
    if change is None:
        name = middle_cut(after.name, NAME)
        return f"{name} answers {percent(after.overall.accuracy)} of {asked} correctly"
    first, second = _names(report)
    if not change.settled:
        return f"These {asked} can't tell {first} and {second} apart"
    more = f"{100 * abs(change.overall.value):.1f} percentage points {'more' if change.overall.value > 0 else 'fewer'}"
    return f"{second} answers {more} of {asked} correctly than {first}"


def claim(report: Report) -> str:
    """How sure the sentence is, and what it is about: methods, or nothing but sets of weights."""
    change, after = report.change, report.after
    floor = max(report.floors.of(report.questions.overall()).values())
    if change is None:
        above = points(after.overall.accuracy - floor)
        text = (
            f"95\u202f% interval {interval(after.overall)}; {above} points from the best rule that never sees an image."
        )
        if after.runs > 1:
            return f"{text} A mean over {after.runs} seeds; the interval takes seeds and patients as random."
        return f"{text} One seed: another would give other numbers."
    text = f"{points(change.overall.value)} points, 95\u202f% interval {points_interval(change.overall)}, {p_value(change.p)}."
    if change.of_methods:
        before, now = change.runs
        return f"{text} {before} seeds before and {now} after; interval and p take seeds and patients as random."
    return (
        f"{text} One seed a side: this is about these two sets of weights, not about the methods that made them; another seed may"
        " turn it round."
    )


def marks(report: Report) -> Iterator[Mark]:
    """The lines of the figure: the runs, the controls, then the three rules."""
    if report.before:
        yield _mark(f"Before: {report.before.name}", "before", report.before)
    yield _mark(f"After: {report.after.name}" if report.before else report.after.name, "after", report.after)
    for role, control in report.controls.items():
        yield _mark(_shown(role), "control", control.run)
    for rule, value in report.floors.of(report.questions.overall()).items():
        yield Mark(f"Rule: {RULE_NAMES[rule]}", "rule", Estimate(value, nan, nan), RULES[rule])


def _names(report: Report) -> tuple[str, str]:
    """What the two sides are called in a sentence; where both have one name, by their places."""
    assert report.before is not None
    names = middle_cut(report.before.name, NAME), middle_cut(report.after.name, NAME)
    return names if names[0] != names[1] else ("the run before", "the run after")


def _mark(name: str, kind: str, run: RunSummary) -> Mark:
    share = run.overall
    return Mark(name, kind, Estimate(share.accuracy, share.low, share.high))


def _shown(role: ControlRole) -> str:
    name = CONTROL_NAMES[role]
    return f"On {name[:1].lower()}{name[1:]}"
