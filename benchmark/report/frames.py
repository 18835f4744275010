"""The report's tables as data frames and files: one line a class, and one line a run, case and order of the options."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from benchmark.predictions.answers import NONE, Answers
from benchmark.report.content import Report, Role
from benchmark.report.number_format import class_name
from benchmark.report.tables import Line, class_lines, source_lines, total_lines
from benchmark.scorers.scorer import View
from mgll.files import atomic_path


def class_table(report: Report) -> pd.DataFrame:
    """A line a class, then totals and sources (`part` says which): accuracies and differences as fractions with 95 % intervals."""
    return pd.DataFrame([_row(line) for line in (*class_lines(report), *total_lines(report), *source_lines(report))])


def case_table(report: Report) -> pd.DataFrame:
    """A line for every run, case and order of the options, with the answer in each view; options are numbered in stored order.

    `chosen` and `correct` are of that row alone; `case_chosen` and `case_correct` are what counts for the case, over its orders.
    Where options tie (`tied`) none is chosen and the answer is not `correct`; `case_expectation` is what the accuracy counts, 1/k
    where the true option ties with k - 1 others. Probabilities are relative to the four options; `letter_mass` is the probability
    of the four letters in the whole vocabulary, missing where it is not known.
    """
    return pd.concat([_answers_frame(report, role, answers) for role, answers in report.answers.items()])


def write_table(stem: Path, table: pd.DataFrame) -> list[Path]:
    """Write a table as `.csv` (`write_csv`) and `.parquet`, atomically."""
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".csv", ".parquet")]
    write_csv(paths[0], table)
    with atomic_path(paths[1]) as path:
        table.to_parquet(path, index=False)
    return paths


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, with line feeds at the ends of lines.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    marked = {name: table[name].map(_no_formula) for name in table.columns if not is_numeric_dtype(table[name])}
    with atomic_path(path) as temporary:
        table.assign(**marked).to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def _no_formula(value: object) -> object:
    if not isinstance(value, str) or (value[:1].isalnum() and "\r" not in value):
        return value
    marked = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    # a bare carriage return is not quoted by the writer, and would begin another line, and with it another formula
    return marked.replace("\r\n", "\n").replace("\r", "\n")


def _row(line: Line) -> dict[str, str | int | float | None]:
    row: dict[str, str | int | float | None] = {
        "part": line.part,
        "code": line.code,
        "name": line.name,
        "n": line.n,
        **{f"floor_{rule}": value for rule, value in line.floors.items()},
    }
    prefix = "after_" if line.before else ""
    estimates = {"before_accuracy": line.before, f"{prefix}accuracy": line.after, "change": line.change}
    for name, estimate in estimates.items():
        if estimate:
            start = name.removesuffix("accuracy") if name != "change" else "change_"
            row |= {name: estimate.value, f"{start}low": estimate.low, f"{start}high": estimate.high}
    if line.change:
        row |= {"fixed": line.flips.fixed if line.flips else None, "broken": line.flips.broken if line.flips else None}
    for name, estimate in {"informedness": line.informedness, "informedness_change": line.informedness_change}.items():
        if estimate:
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    if line.change:
        row["p_holm"] = line.p
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _answers_frame(report: Report, role: Role, answers: Answers) -> pd.DataFrame:
    """The answers of one run as a table, built column by column: a row at a time would take longer than the bootstrap."""
    cases, rotations = report.cases, answers.rotations
    n = len(cases)

    def repeated(values: Sequence[str] | np.ndarray) -> np.ndarray:
        return np.repeat(np.asarray(values), rotations)

    first = next(iter(answers.scores))  # letters where there are any, else text
    chosen = answers.picked_in_each_order(first).ravel()
    truth = repeated(answers.truth)
    counted = repeated(answers.picked(answers.primary))
    tied = (chosen == NONE) & (answers.scores[first].max(axis=-1).ravel() > 0)
    columns: dict[str, object] = {
        "run": role,
        "model": answers.name,
        "case": repeated(answers.cases),
        "rotation": np.tile(np.arange(rotations), n),
        "code": repeated(answers.codes),
        "disease": repeated([class_name(code, report.table) for code in answers.codes]),
        "group": repeated(answers.groups),
        "source": repeated(answers.sources),
        "question": repeated([case.question for case in cases]),
    }
    columns |= {f"option_{k}": repeated([case.option_codes[k] for case in cases]) for k in range(4)}
    columns |= {
        "answer": truth,
        "chosen": _nullable(chosen),
        "tied": tied,
        "correct": chosen == truth,
        "case_chosen": _nullable(counted),
        "case_correct": counted == truth,
        "case_expectation": repeated(answers.correct(answers.primary)),
    }
    names: dict[View, str] = {"letter": "probability", "option": "text_likelihood"}
    for view, name in names.items():
        if view in answers.scores:
            columns |= {f"{name}_{k}": answers.scores[view][..., k].ravel() for k in range(4)}
    if "text" in answers.scores:
        columns["said"] = _nullable(answers.picked_in_each_order("text").ravel())
    columns["letter_mass"] = answers.letter_mass.ravel()
    columns["reply"] = [reply for replies in answers.replies for reply in replies]
    columns["image_sha256"] = repeated([case.image_sha256 for case in cases])
    return pd.DataFrame(columns)


def _nullable(picks: np.ndarray) -> pd.arrays.IntegerArray:
    """Option numbers, missing where a reply names none."""
    return pd.arrays.IntegerArray(np.maximum(picks, 0).astype(np.int8), picks < 0)
