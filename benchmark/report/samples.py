"""Sample questions with their answers, drawn by a seed, so that nobody chooses the beautiful ones."""

from collections.abc import Iterator

import numpy as np

from benchmark.predictions.answers import NONE, Answers
from benchmark.report.case_browser import OUTCOMES, outcomes
from benchmark.report.content import Report
from benchmark.report.number_format import percent
from benchmark.report.tables import Cell, Table
from mgll.vocabulary.questions import LETTERS

#: So many questions of each outcome are drawn.
EACH = 2


def samples(report: Report, seed: int = 0) -> Iterator[int]:
    """Numbers of the questions drawn: as many of each outcome, fixed and broken ones first, in the order of the questions."""
    found = np.asarray(outcomes(report))
    generator = np.random.default_rng(seed)
    for name in OUTCOMES:
        numbers = np.flatnonzero(found == name)
        if numbers.size:
            drawn = generator.choice(numbers, size=min(EACH, numbers.size), replace=False)
            yield from sorted(drawn.tolist())


def sample_table(report: Report) -> Table:
    """Question, options and every side's answer with its probability; the true option has a star."""
    found, rows = outcomes(report), []
    sides = [role for role in ("before", "after") if role in report.answers]
    for number in samples(report):
        case = report.cases[number]
        options = "; ".join(
            f"{LETTERS[place]} {name}{'*' if place == case.answer else ''}" for place, name in enumerate(case.options)
        )
        answers = [_answer(report.answers[role], number) for role in sides]  # type: ignore[index]
        rows.append((Cell(case.id), Cell(case.question), Cell(options), *answers, Cell(OUTCOMES[found[number]])))
    heads = sides if len(sides) > 1 else ["answer"]
    return Table(("Question", "Asked", "Options (* true)", *heads, "Outcome"), tuple(rows), labels=3)


def _answer(answers: Answers, number: int) -> Cell:
    picked = int(answers.picked(answers.primary)[number])
    if picked == NONE:
        return Cell("none or tie")
    return Cell(LETTERS[picked], percent(float(answers.table(answers.primary)[number, picked])))
