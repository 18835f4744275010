"""Predictions made by hand: what a run picks in each order, without a model."""

import hashlib
from collections.abc import Sequence

import numpy as np

from benchmark.cases.case import Case
from benchmark.predictions.file import Prediction, Run, cases_sha256, most_probable, questions_sha256


def row(
    case: str,
    rotation: int = 0,
    letters: Sequence[float] | None = None,
    said: int | None = None,
    options: Sequence[float] | None = None,
    answer: int = 0,
    code: str = "DR",
    group: str | None = None,
    text: str = "",
    mass: float | None = None,
) -> Prediction:
    """One row; `letters` and `options` are weights of the options in stored order."""
    log_probs, likelihoods = (
        None if weights is None else tuple(float(value) for value in np.log(np.array(weights) / np.sum(weights)))
        for weights in (letters, options)
    )
    return Prediction(
        case=case, rotation=rotation, log_probs=log_probs, text=text, said=said, option_log_probs=likelihoods,
        chosen=said if log_probs is None else most_probable(log_probs),
        tied=log_probs is not None and most_probable(log_probs) is None, letter_mass=mass,
        answer=answer, code=code, group=group or case,
        source="s", prompt_sha256=hashlib.sha256(b"p").hexdigest(),
    )  # fmt: skip


def run_of(rows: Sequence[Prediction], views: Sequence[str] = ("letter",), **header: object) -> Run:
    """The rows as a run."""
    made = {"model": "m", "model_sha256": "m", "cases_sha256": "c", "questions_sha256": "q", "images": "own"}
    rotations = 1 + max(row.rotation for row in rows)
    return Run({**made, "rotations": rotations, "views": list(views), **header}, tuple(rows))


def run_about(cases: Sequence[Case], name: str, wrong_every: int, **header: object) -> Run:
    """A run that errs at every so-manieth case, not always with the same certainty."""
    rows = []
    for number, case in enumerate(cases):
        chosen = case.answer if number % wrong_every else (case.answer + 1) % 4
        weights = [1.0 + (option == chosen) * (2 + number % 7) for option in range(4)]
        known = {"answer": case.answer, "code": case.code, "group": case.group}
        rows.append(row(case.id, letters=weights, **known).model_copy(update={"source": case.source}))
    own = {"model": name, "model_sha256": name, "cases_sha256": cases_sha256(cases)}
    return run_of(rows, **{**own, "questions_sha256": questions_sha256(cases), **header})
