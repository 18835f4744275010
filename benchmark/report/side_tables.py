"""Tables beside the main one: orders and views, letters, what is scored without the images, and what is taken for what."""

import math
from collections.abc import Sequence

from benchmark.cases.floor import RULE_NAMES, Rule
from benchmark.predictions.answers import Reading
from benchmark.report.content import Report
from benchmark.report.number_format import class_name, p_number, percent
from benchmark.report.summary import RunSummary
from benchmark.report.tables import Cell, Table, accuracy_cell, change_cell
from benchmark.scorers.scorer import View
from benchmark.stats.bootstrap import Estimate
from mgll.vocabulary.questions import LETTERS

VIEW_NAMES: dict[View, str] = {
    "letter": "Letters",
    "text": "Words",
    "option": "Options’ names",
}

TOTAL_NAMES = {
    "overall": "overall",
    "macro": "macro",
    "ten_class": "ten classes",
    "informedness": "informedness",
    "ten_informedness": "informedness, ten classes",
}

#: What each rule that does not look picks among the four options.
RULES: dict[Rule, str] = {
    "frequency": "the disease that is the answer most often",
    "source": "the disease that is right most often for photographs of the same source",
    "rarest": "the disease that is the answer least often",
}

CONTROL_NAMES = {
    "blind": "Blank images",
    "shuffled": "Images of other cases",
    "source": "Mean images of the sources",
    "border": "Borders only",
}

#: So many confusions are listed; the page holds all of them as a matrix.
CONFUSIONS = 12


def reading_name(reading: Reading, rotations: int) -> str:
    """Name of what a reading does with the orders: the stored one alone, their average, or all of them right."""
    if reading.way == "stored":
        return "as stored"
    if reading.way == "all":
        return f"all {rotations} right"
    return f"average of {rotations}" if reading.view != "text" else f"most often in {rotations}"


def reading_table(report: Report) -> Table:
    """Every way of reading the run reported on, the one that counts standing out."""
    before, after, change = report.before, report.after, report.change
    rows = []
    for reading, score in after.readings.items():
        cells = [Cell(VIEW_NAMES[reading.view]), Cell(reading_name(reading, after.rotations))]
        if before and change:
            earlier, moved = before.readings.get(reading), change.readings.get(reading)
            cells += [accuracy_cell(earlier.overall if earlier else None), accuracy_cell(score.overall)]
            cells += [change_cell(moved.overall if moved else None), Cell(p_number(moved.p) if moved else "")]
            cells += [accuracy_cell(earlier.macro if earlier else None), accuracy_cell(score.macro)]
            cells.append(change_cell(moved.macro if moved else None))
        else:
            cells += [accuracy_cell(score.overall), accuracy_cell(score.macro)]
        rows.append(tuple(cells))
    pairs = ("overall before", "after", "change", "p", "macro before", "after", "change")
    columns = ("Read from", "Orders of options", *(pairs if before else ("overall", "macro")))
    return Table(columns, tuple(rows), frozenset({list(after.readings).index(after.primary)}), labels=2)


def agreement_table(report: Report) -> Table | None:
    """How often two views of a run choose the same option; None where there is one view only."""
    rows = []
    for name, run in (("before", report.before), ("after" if report.before else "", report.after)):
        for pair in run.pairs if run else ():
            views = f"{VIEW_NAMES[pair.first]} and {VIEW_NAMES[pair.second].lower()}"
            found = pair.agreement
            kappa = "–" if math.isnan(found.kappa) else f"{found.kappa:.2f}"
            cells = (
                accuracy_cell(pair.equal),
                Cell(kappa),
                Cell(f"{found.n:,}"),
                Cell(f"{found.n - found.compared:,}"),
            )
            rows.append((Cell(f"{views}, {name}".rstrip(", ")), *cells))
    columns = ("Views", "same option", "κ", "answers", "none or tie in a view")
    return Table(columns, tuple(rows)) if rows else None


def control_table(report: Report) -> Table:
    """The run reported on, then what is scored without the cases' own images: by the model, and by rules that see nothing."""
    after = report.after
    empty = Cell("")
    first = (accuracy_cell(after.overall), accuracy_cell(after.macro), accuracy_cell(after.informedness))
    rows: list[tuple[Cell, ...]] = [(Cell(f"{after.name}, with the images"), *first, empty, empty)]
    for role, control in report.controls.items():
        run, gain = control.run, control.gain
        scores = (accuracy_cell(run.overall), accuracy_cell(run.macro), accuracy_cell(run.informedness))
        rows.append((Cell(CONTROL_NAMES[role]), *scores, change_cell(gain.overall), Cell(p_number(gain.p))))
    numbers = {number.name: report.floors.of(number) for number in report.questions.totals()}
    for rule, name in RULE_NAMES.items():
        found = (Cell(percent(numbers[number][rule])) for number in ("overall", "macro", "informedness"))
        rows.append((Cell(f"Rule: {name} ({RULES[rule]})"), *found, empty, empty))
    letter = LETTERS[after.answers.index(max(after.answers))]
    always = f"Rule: always {letter}, the letter that is right most often"
    rows.append((Cell(always), Cell(percent(after.majority_letter)), Cell("–"), Cell("–"), empty, empty))
    columns = (f"{after.overall.n:,} questions", "overall", "macro", "informedness", "gain by the images", "p")
    return Table(columns, tuple(rows), frozenset({0}))


def seed_table(report: Report) -> Table:
    """Every run with its own numbers, then what the runs of a side say together."""
    names = {number.name: TOTAL_NAMES[number.name] for number in report.questions.totals()}
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for side, run in (("before", report.before), ("after" if report.before else "", report.after)):
        if run is None:
            continue
        label = f"{run.name}, {side}".rstrip(", ")
        values = {name: run.over_seeds[name].by_run for name in names} if run.over_seeds else {}
        for number in range(run.runs if values else 0):
            rows.append((Cell(f"{label}, run {number + 1}"), *(Cell(percent(values[name][number])) for name in names)))
        strong.add(len(rows))
        together = f"{label}, mean of {run.runs} runs" if values else f"{label}, one run"
        rows.append((Cell(together), *(accuracy_cell(getattr(run, name)) for name in names)))
    if report.change:
        strong.add(len(rows))
        rows.append((Cell("Change"), *(change_cell(getattr(report.change, name)) for name in names)))
        if found := report.change.over_seeds:
            rows.append((Cell("p"), *(Cell(p_number(found[name].p)) for name in names)))
            rows.append(
                (
                    Cell("Scatter between runs (standard deviation)"),
                    *(Cell(f"{100 * found[name].between_runs:.1f}") for name in names),
                )
            )
    return Table(("", *names.values()), tuple(rows), frozenset(strong))


def letter_table(report: Report) -> Table:
    """How often each letter is true, and how often each run chose it, over all orders of the options."""
    counts = {"true answer": (*report.after.answers, 0)}

    def add(name: str, run: RunSummary) -> None:
        found = run.letters[run.primary.view]
        counts[name] = (*found.counts, found.none)

    if report.before:
        add("chosen before", report.before)
    add("chosen after" if report.before else "chosen", report.after)
    for role, control in report.controls.items():
        add(f"chosen for {CONTROL_NAMES[role].lower()}", control.run)
    shown = 5 if any(found[4] for found in counts.values()) else 4
    rows = tuple(
        (Cell(name), *(Cell(f"{n:,}", percent(n / sum(found))) for n in found[:shown]))
        for name, found in counts.items()
    )
    return Table(("", *LETTERS, "none or tie")[: shown + 1], rows)


def confusion_table(report: Report) -> Table:
    """The pairs confused most often: of the times that the other disease stood beside the true one, how often it was chosen."""
    after, before = report.confusions["after"], report.confusions.get("before")
    rows = []
    for true, other in after.mistakes()[:CONFUSIONS]:
        cells = [Cell(class_name(true, report.table)), Cell(class_name(other, report.table))]
        for confusion in (before, after) if before else (after,):
            row, column = confusion.codes.index(true), confusion.codes.index(other)
            cells += [
                Cell(f"{confusion.chosen[row, column]} of {confusion.offered[row, column]}"),
                accuracy_cell(confusion.rate(true, other)),
            ]
        rows.append(tuple(cells))
    counts = ("before", "share before", "after", "share after") if before else ("chosen", "share of the times offered")
    return Table(("True", "Taken for", *counts), tuple(rows), labels=2)


def calibration_table(report: Report) -> Table | None:
    """How far the probabilities can be believed; None where answers are read from words."""
    runs = [run.calibration for run in (report.before, report.after) if run and run.calibration]
    if report.after.calibration is None:
        return None

    def row(name: str, figures: Sequence[Estimate]) -> tuple[Cell, ...]:
        return (Cell(name), *map(accuracy_cell, figures))

    rows = (
        (
            Cell("Brier score (0 is best, 25\u202f% each gives 0.75)"),
            *(Cell(f"{run.brier.value:.3f}", f"{run.brier.low:.3f} to {run.brier.high:.3f}") for run in runs),
        ),
        row("Skill: share of these 0.75 done away with", [run.brier_skill for run in runs]),
        (Cell("Confidence less accuracy, in points"), *(change_cell(run.overconfidence) for run in runs)),
        row("Calibration error (ECE, ten bins of equal mass)", [run.ece for run in runs]),
        row("… which chance alone would give", [run.ece_if_calibrated for run in runs]),
        row("Calibration error (ten bins of equal width)", [run.ece_equal_width for run in runs]),
    )
    names = ("before", "after") if len(runs) == 2 else ("after",) if report.before else ("this run",)
    return Table((f"{runs[-1].n:,} questions", *names), rows)
