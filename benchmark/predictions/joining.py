"""One run of those over the folds of a cross-fitting: each case is answered by the model that did not learn from its patient."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from benchmark.cases.case import Case
from benchmark.predictions.file import (
    FILE,
    ComparisonError,
    Run,
    cases_sha256,
    check_complete,
    questions_sha256,
    read_run,
    write_run,
)

#: Header entries that are of one fold alone, or made anew.
_OF_A_FOLD = ("model", "model_sha256", "cases_sha256", "questions_sha256", "answers", "versions")
#: Those in which the folds' runs must agree.
_SHARED = ("images", "rotations", "views", "options", "host")


def join_runs(runs: Sequence[str | os.PathLike[str]], cases: Sequence[Case], out: str | os.PathLike[str]) -> Run:
    """Join the finished runs of all folds into one over all cases, and write it.

    Args:
        runs: output directories of run_mcq, or predictions files, one for each fold.
        cases: all cases, as `benchmark.cases.small_sets.cross_fit` wrote them.
        out: folder in which `predictions.jsonl` is written.

    Raises:
        ComparisonError: for runs that were asked in other ways, a case that two of them answer, or one that none answers.
    """
    read = [read_run(path) for path in runs]
    for run in read[1:]:
        if other := [name for name in _SHARED if run.header.get(name) != read[0].header.get(name)]:
            raise ComparisonError(
                f"{run.name!r} and {read[0].name!r} differ in {', '.join(other)}: they are no folds of one run"
            )
    answered: dict[tuple[str, int], str] = {}
    for run, path in zip(read, runs, strict=True):
        for row in run.predictions:
            first = answered.setdefault((row.case, row.rotation), str(path))
            if first != str(path):
                raise ComparisonError(
                    f"case {row.case!r} is answered by {first} and by {path}: folds do not share cases"
                )
    rows = {(row.case, row.rotation): row for run in read for row in run.predictions}
    numbers = {case.id: number for number, case in enumerate(cases)}
    ordered = sorted(rows.values(), key=lambda row: (numbers.get(row.case, len(numbers)), row.rotation))
    names = list(dict.fromkeys(str(run.header["model"]) for run in read))
    models = [str(run.header["model_sha256"]) for run in read]
    header = {
        **{name: value for name, value in read[0].header.items() if name not in _OF_A_FOLD},
        "model": names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more folds",
        "model_sha256": hashlib.sha256("\n".join(models).encode()).hexdigest(),
        "cases_sha256": cases_sha256(cases),
        "questions_sha256": questions_sha256(cases),
        "versions": read[0].header.get("versions", {}),
        "folds": models,
        "answers": len(ordered),
    }
    run = Run(header, tuple(ordered))
    check_complete(run, cases)
    write_run(Path(out) / FILE, run)
    return run
