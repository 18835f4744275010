"""What the orders of the options and the ways of reading an answer make of a run, and what is left of it without its images."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.answers import Reading
from benchmark.bootstrap import Estimate
from benchmark.report import Report
from benchmark.scorer import View
from benchmark.significance import McNemar
from benchmark.summary import ReadingChange, Score

VIEW_NAMES: dict[View, str] = {
    "letter": "Probability of the letters",
    "text": "Reply in words",
    "option": "Likelihood of the options' names",
}


@dataclass(frozen=True)
class ReadingLine:
    """One way of reading the answers.

    Attributes:
        view, way: how to call it.
        primary: whether this is the one that all other tables hold.
        before, after: its accuracies; `before` is None in the report of one run, or where the run before has no such view.
        change: after minus before.
    """

    view: str
    way: str
    primary: bool
    before: Score | None
    after: Score
    change: ReadingChange | None


@dataclass(frozen=True)
class ControlLine:
    """What is scored without the case's own image: a run of the model on other images, or a rule that looks at none.

    Attributes:
        name: of the control.
        accuracy, macro: with intervals, which are NaN for rules.
        gain: the model's accuracy with the images minus this; None for rules.
        test: of that gain.
    """

    name: str
    accuracy: Estimate
    macro: Estimate
    gain: Estimate | None = None
    test: McNemar | None = None


def way_name(reading: Reading, rotations: int) -> str:
    """What becomes of the orders in this reading."""
    if reading.way == "stored":
        return "options as stored"
    if reading.way == "all":
        return f"right in all {rotations} orders"
    return f"averaged over {rotations} orders" if reading.view != "text" else f"named most often in {rotations} orders"


def reading_lines(report: Report) -> list[ReadingLine]:
    """Every way of reading the run reported on; a single line where there is only one."""
    before, after, change = report.before, report.after, report.change
    return [
        ReadingLine(
            VIEW_NAMES[reading.view],
            way_name(reading, after.rotations),
            reading == after.primary,
            before.readings.get(reading) if before else None,
            score,
            change.readings.get(reading) if change else None,
        )
        for reading, score in after.readings.items()
    ]


def control_lines(report: Report) -> list[ControlLine]:
    """Shuffled and blank images where such runs were given, then the rules that no model can fall behind with honour."""
    lines = []
    for role, control in report.controls.items():
        name = "Blank images" if role == "blind" else "Images of other cases"
        share = control.run.overall
        overall = Estimate(share.accuracy, share.low, share.high)
        lines.append(ControlLine(name, overall, control.run.macro, control.gain.overall, control.gain.mcnemar))
    floor, nan = report.floor, float("nan")
    rules = {
        "The most frequent disease among the options": (floor.overall, floor.macro),
        "The letter that is right most often": (report.after.majority_letter, nan),
    }
    return lines + [
        ControlLine(name, Estimate(overall, nan, nan), Estimate(macro, nan, nan)) for name, (overall, macro) in rules.items()
    ]


def letter_lines(report: Report) -> Iterator[tuple[str, tuple[int, ...]]]:
    """How often each letter is true, and how often each run chose it, over all orders of the options."""
    yield "true answer", report.after.answers
    if report.before:
        yield "chosen before", report.before.letters[report.before.primary.view]
    yield "chosen after" if report.before else "chosen", report.after.letters[report.after.primary.view]
    for role, control in report.controls.items():
        shown = {"blind": "blank images", "shuffled": "images of other cases"}[role]
        yield f"chosen for {shown}", control.run.letters[control.run.primary.view]
