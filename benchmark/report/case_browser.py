"""All cases of a report, for the page's browser: what was asked, what each run answered, what became of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.predictions.answers import NONE, Answers, Reading
from benchmark.replies.parsing import parse_reply
from benchmark.report.content import Report
from benchmark.report.number_format import class_name
from benchmark.stats.rotations import as_asked
from mgll.vocabulary.questions import LETTERS

#: What became of a case, in the order of the filter. The first four are of two runs, the others of one.
OUTCOMES = {
    "fixed": "Fixed",
    "broken": "Broken",
    "both-wrong": "Both wrong",
    "both-right": "Both right",
    "wrong": "Wrong",
    "right": "Right",
}

#: A reply is cut after so many characters on the page; the predictions file has all of it.
REPLY_LENGTH = 160


def outcomes(report: Report) -> list[str]:
    """What became of each case: keys of `OUTCOMES`."""
    after = _right(report.answers["after"])
    if report.before is None:
        return ["right" if value else "wrong" for value in after]
    names = {(0, 1): "fixed", (1, 0): "broken", (0, 0): "both-wrong", (1, 1): "both-right"}
    return [names[pair] for pair in zip(_right(report.answers["before"]), after, strict=True)]


def browser_data(report: Report) -> dict[str, Any]:
    """The cases column by column, texts that recur held once, as `report.js` reads them. Images are named by their number."""
    cases = report.cases
    names, options = _numbered([name for case in cases for name in case.options])
    questions, question = _numbered([case.question for case in cases])
    sources, source = _numbered([case.source for case in cases])
    images, image = _numbered([case.image_sha256 for case in cases])
    codes = list(report.after.classes)
    sides = ["before", "after"] if report.before else ["after"]
    return {
        "names": names,
        "questions": questions,
        "sources": sources,
        "classes": [[code, class_name(code, report.table)] for code in codes],
        "outcomes": list(OUTCOMES.items()),
        "images": images,
        "id": [case.id for case in cases],
        "image": image,
        "question": question,
        "options": [options[start : start + 4] for start in range(0, len(options), 4)],
        "answer": report.answers["after"].truth.tolist(),
        "class": [codes.index(case.code) for case in cases],
        "source": source,
        "outcome": [list(OUTCOMES).index(name) for name in outcomes(report)],
        "sides": [_side(report.answers[side], side) for side in sides],  # type: ignore[index]
    }


def unnamed_reasons(report: Report, most: int) -> list[tuple[str, str, str, str]]:
    """(case, letters' order, reply, why it names no option) of the first replies of the run reported on that count as wrong."""
    by_id = {case.id: case for case in report.cases}
    return [
        (
            found.case,
            "".join(LETTERS[index] for index in as_asked(range(4), found.rotation)),
            found.reply,
            parse_reply(found.reply, as_asked(by_id[found.case].options, found.rotation), report.table).reason,
        )
        for found in report.after.unnamed[:most]
    ]


def _side(answers: Answers, side: str) -> dict[str, Any]:
    """One run: per mille of each option, the pick, and what the other views and orders say where there are any."""
    primary = answers.primary
    several = answers.rotations > 1
    found: dict[str, Any] = {
        "side": side,
        "picked": answers.picked(primary).tolist(),
        "permille": np.rint(1000 * answers.table(primary)).astype(int).tolist(),
        "rotations": answers.rotations,
    }
    if several:
        found["orders"] = _votes(answers.picked_in_each_order(primary.view))
    if "text" in answers.scores:
        said = answers.picked_in_each_order("text")
        found["said"] = _votes(said)
        if "letter" in answers.scores:
            letters = answers.picked_in_each_order("letter")
            found["split"] = ((said != letters) & (said != NONE) & (letters != NONE)).any(axis=1).astype(int).tolist()
        found["reply"] = [_shown_reply(replies, picks) for replies, picks in zip(answers.replies, said, strict=True)]
    if "option" in answers.scores and primary.view != "option":
        found["likeliest"] = answers.picked(Reading("option", "averaged" if several else "stored")).tolist()
    return found


def _votes(picks: np.ndarray) -> list[list[int]]:
    """[cases, rotations] -> how often each of the four options was picked, and none."""
    votes: list[list[int]] = np.stack([(picks == option).sum(axis=1) for option in (0, 1, 2, 3, NONE)], axis=1).tolist()
    return votes


def _shown_reply(replies: Sequence[str], picks: np.ndarray) -> str:
    """The first reply that names no option, else the one to the stored order."""
    reply = next((reply for reply, pick in zip(replies, picks, strict=True) if pick == NONE), replies[0])
    return reply if len(reply) <= REPLY_LENGTH else reply[:REPLY_LENGTH] + " …"


def _numbered(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Distinct texts in order of appearance, and the number of each."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(text, len(numbers)) for text in texts]
    return list(numbers), found


def _right(answers: Answers) -> list[int]:
    return [int(value) for value in answers.correct(answers.primary)]
