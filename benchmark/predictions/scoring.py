"""Putting the cases to a model, so that a killed run goes on, processes share the work, and nothing is ever mixed."""

import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from benchmark.cases.case import Case
from benchmark.cases.images import CaseImages, Shown
from benchmark.predictions.file import (
    FILE,
    IDENTITY,
    Prediction,
    Run,
    append_rows,
    cases_sha256,
    journal_path,
    journals,
    most_probable,
    questions_sha256,
    read_journal,
    read_run,
    start_journal,
    write_run,
)
from benchmark.replies.parsing import parse_reply
from benchmark.scorers.scorer import Ask, AskError, Score, Scorer, View
from benchmark.stats.rotations import as_asked, as_stored
from mgll.formats import FormatError
from mgll.run_folder import locked

#: How far a kept probability may be from a second scoring before a run starts anew: other code or precision, not rounding.
TOLERANCE = 1e-3

Rows = dict[tuple[str, int], Prediction]


@dataclass(frozen=True)
class Asking:
    """How the cases are asked.

    Attributes:
        rotations: in how many orders of the options: the stored one, the four cyclic ones, or all 24.
        views: how the answers are read; the first decides what is `chosen` unless it is `option`.
        images: what the model is shown.
        batch_size: cases a call; a resumed run keeps whole batches only, so it ends in the same bytes.
    """

    rotations: Literal[1, 4, 24] = 1
    views: tuple[View, ...] = ("letter",)
    images: Shown = "own"
    batch_size: int = 8


@dataclass(frozen=True)
class Processes:
    """This process among those that share a run; `wait` returns when all have come to it."""

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None


def score_cases(
    cases: Sequence[Case],
    scorer: Scorer,
    out: Path,
    asking: Asking | None = None,
    header: Mapping[str, Any] | None = None,
    processes: Processes | None = None,
) -> Run:
    """Score cases into `out/predictions.jsonl`, going on where a killed run of the same model, cases and questions was.

    Rows of anything else are set aside in `predictions.old-N.jsonl` with a message on standard error. The file is the same however
    many processes wrote it.

    Args:
        cases: what to ask; their images must be readable and be the ones that were asked about.
        scorer: who is asked.
        out: output directory, one for all processes; made where it is missing.
        asking: how.
        header: further entries of the file's header, e.g. package versions.
        processes: which part of the work is this process's; all of it by default.

    Raises:
        ImageError: naming case and file where an image is missing, damaged or not the one that was asked about.
        ValueError: if another process scores into `out`; if the model cannot give one of the views, or neither letters nor text
            are asked for; naming model, case and rotation where it gives numbers that are not finite. What was scored before
            stays in the journal.
    """
    asking, processes = asking or Asking(), processes or Processes()
    _check_views(asking, scorer)
    header = {
        "model": scorer.name,
        "model_sha256": scorer.fingerprint,
        "cases_sha256": cases_sha256(cases),
        "questions_sha256": questions_sha256(cases),
        "images": asking.images,
        "rotations": asking.rotations,
        "views": list(asking.views),
        **(header or {}),
    }
    batches = _Batches(cases, scorer, asking)
    with locked(out, by_this_process=processes.index == 0):
        return _score(batches, out, header, processes)


def _score(batches: "_Batches", out: Path, header: dict[str, Any], processes: Processes) -> Run:
    """Score what is missing, in a folder that no other run writes into."""
    if processes.index == 0:
        _prepare(out, header, batches)
    processes.wait()
    done = {} if (out / FILE).exists() else _rows(read_journal(journal_path(out, 0)))
    processes.wait()  # nobody appends before all have seen what is left to do
    if not (out / FILE).exists():
        _score_share(batches, batches.missing(done), out, header, processes)
        processes.wait()
        if processes.index == 0:
            written = [row for path in journals(out) for row in _own_rows(path, header)]
            rows = tuple(batches.ordered({(row.case, row.rotation): row for row in written}))
            # only a finished file says how many rows it has: one that is cut later is then known
            write_run(out / FILE, Run({**header, "answers": len(rows)}, rows))
            for path in journals(out):
                path.unlink()
        processes.wait()
    return read_run(out / FILE)


def _own_rows(path: Path, header: Mapping[str, Any]) -> tuple[Prediction, ...]:
    """The rows of a journal that this run wrote; where folders cannot be locked, another run may have put its own there.

    Raises:
        FormatError: if they are another run's.
    """
    journal = read_journal(path)
    if names := _other_identity(journal, header):
        raise FormatError(
            path, 1, f"another run, of {' and '.join(names)} other than this one's, writes here; start both again apart"
        )
    return journal.predictions


def _other_identity(run: Run, header: Mapping[str, Any]) -> list[str]:
    names = [key.removesuffix("_sha256") for key in IDENTITY if run.header[key] != header[key]]
    # dummies have no precision, nor had files before it was written down
    said = [entries.get("dtype") for entries in (run.header, header)]
    return [*names, "dtype"] if all(said) and said[0] != said[1] else names


def _check_views(asking: Asking, scorer: Scorer) -> None:
    if lacking := [view for view in asking.views if view not in scorer.views]:
        raise ValueError(f"{scorer.name} has no {' and no '.join(lacking)} view; it has {', '.join(scorer.views)}")
    if not {"letter", "text"} & set(asking.views):
        raise ValueError("an answer is read from letters or from text; name one of these views beside `option`")


class _Batches:
    """The cases in batches that depend on nothing but the batch size, and how one is scored."""

    def __init__(self, cases: Sequence[Case], scorer: Scorer, asking: Asking) -> None:
        self.cases, self.asking = cases, asking
        self._scorer, self._images = scorer, CaseImages(cases, asking.images)
        self.starts = range(0, len(cases), asking.batch_size)

    def keys(self, start: int) -> list[tuple[str, int]]:
        """Case and rotation of every row of a batch."""
        cases = self.cases[start : start + self.asking.batch_size]
        return [(case.id, rotation) for case in cases for rotation in range(self.asking.rotations)]

    def missing(self, rows: Mapping[tuple[str, int], Prediction]) -> list[int]:
        """Starts of the batches that are not there as a whole."""
        return [start for start in self.starts if not all(key in rows for key in self.keys(start))]

    def ordered(self, rows: Mapping[tuple[str, int], Prediction]) -> list[Prediction]:
        """The rows of whole batches in the order of the cases."""
        missing = set(self.missing(rows))
        return [rows[key] for start in self.starts if start not in missing for key in self.keys(start)]

    def score(self, start: int) -> list[Prediction]:
        """Score one batch and return all of its rows."""
        cases = self.cases[start : start + self.asking.batch_size]
        rotations = range(self.asking.rotations)
        asks = [
            Ask(self._images[start + i], case.question, tuple(as_asked(case.options, r) for r in rotations))
            for i, case in enumerate(cases)
        ]
        try:
            scores = self._scorer.score(asks, self.asking.views)
        except AskError as error:
            raise ValueError(f"case {cases[error.number].id}: {error}") from error
        for case, found in zip(cases, scores, strict=True):
            for rotation, score in zip(rotations, found, strict=True):
                self._check_finite(case, rotation, score)
        return [
            _prediction(case, rotation, ask, score, "text" in self.asking.views)
            for case, ask, found in zip(cases, asks, scores, strict=True)
            for rotation, score in zip(rotations, found, strict=True)
        ]

    def _check_finite(self, case: Case, rotation: int, score: Score) -> None:
        for what, values in (("letters", score.log_probs), ("options' texts", score.option_log_probs)):
            if values is not None and not all(map(math.isfinite, values)):
                shown = ", ".join(f"{value:.4g}" for value in values)
                raise ValueError(
                    f"{self._scorer.name}, case {case.id}, rotation {rotation}: the log-probabilities of the {what} are not finite"
                    f" ({shown}). The weights hold NaN or infinity, or overflow in their dtype: check the checkpoint, or take"
                    " --dtype float32 or bfloat16, and start again"
                )


def _prediction(case: Case, rotation: int, ask: Ask, score: Score, parse: bool) -> Prediction:
    said = parse_reply(score.text, ask.orders[rotation], case.table).choice if parse else None
    said = None if said is None else as_asked(range(4), rotation)[said]
    log_probs = None if score.log_probs is None else as_stored(score.log_probs, rotation)
    most = None if log_probs is None else most_probable(log_probs)
    return Prediction(
        case=case.id,
        rotation=rotation,
        log_probs=log_probs,
        text=score.text,
        said=said,
        option_log_probs=None if score.option_log_probs is None else as_stored(score.option_log_probs, rotation),
        letter_mass=score.letter_mass,
        chosen=said if log_probs is None else most,
        tied=log_probs is not None and most is None,
        answer=case.answer,
        code=case.code,
        group=case.group,
        source=case.source,
        prompt_sha256=hashlib.sha256(score.prompt.encode()).hexdigest(),
    )


def _score_share(
    batches: _Batches, missing: Sequence[int], out: Path, header: dict[str, Any], processes: Processes
) -> None:
    """Score every n-th of the missing batches into this process's journal."""
    path = journal_path(out, processes.index)
    journal = path.open("a", encoding="utf-8") if processes.index == 0 else start_journal(path, header, ())
    share = missing[processes.index :: processes.count]
    bar = tqdm(
        total=len(batches.starts),
        initial=len(batches.starts) - len(missing),
        unit="batch",
        desc="scoring",
        disable=True if processes.index else None,
    )
    with journal, bar:
        for start in share:
            append_rows(journal, batches.score(start))
            bar.update(processes.count)


def _prepare(out: Path, header: dict[str, Any], batches: _Batches) -> None:
    """Leave a finished file, or one journal with what holds of all that was there."""
    rows = _kept_rows(out, header, batches)
    if batches.missing(rows) or not (out / FILE).exists():
        start_journal(journal_path(out, 0), header, batches.ordered(rows)).close()
        (out / FILE).unlink(missing_ok=True)
    for path in journals(out):
        if path != journal_path(out, 0) or (out / FILE).exists():
            path.unlink()


def _kept_rows(out: Path, header: Mapping[str, Any], batches: _Batches) -> Rows:
    """The rows of a finished or interrupted run that still hold; anything else is set aside."""
    rows: Rows = {}
    kept = []
    for path in [*out.glob(FILE), *journals(out)]:
        try:
            found = read_journal(path)
        except FormatError as error:
            _set_aside(path, str(error))
            continue
        if names := _other_identity(found, header):
            _set_aside(path, f"made with other {' and '.join(names)}")
            continue
        rows |= _rows(found)
        kept.append(path)
    if reason := _what_changed(rows, batches):
        for path in kept:
            _set_aside(path, reason)
        return {}
    if rows:
        asked = len(batches.cases) * batches.asking.rotations
        print(f"{out}: {len(rows)} of {asked} answers are there, going on", file=sys.stderr)
    return rows


def _rows(run: Run) -> Rows:
    return {(row.case, row.rotation): row for row in run.predictions}


def _what_changed(rows: Rows, batches: _Batches) -> str:
    """Score the first batch that is there again: no hash knows the code between file and probability."""
    first = next((start for start in batches.starts if all(key in rows for key in batches.keys(start))), None)
    if first is None:
        return ""
    pairs = [(again, rows[again.case, again.rotation]) for again in batches.score(first)]
    if any(again.prompt_sha256 != row.prompt_sha256 for again, row in pairs):
        return "the host now asks with another prompt"
    apart = (
        max(
            abs(again.probability(option) - row.probability(option))
            for again, row in pairs
            if again.log_probs and row.log_probs
            for option in range(4)
        )
        if "letter" in batches.asking.views
        else 0.0
    )
    return f"the first cases now score differently (by up to {apart:.2g})" if apart > TOLERANCE else ""


def _set_aside(path: Path, reason: str) -> None:
    number = 1
    while (aside := path.with_name(f"predictions.old-{number}.jsonl")).exists():
        number += 1
    path.rename(aside)
    print(f"{path}: {reason}; starting anew, the old rows are in {aside.name}", file=sys.stderr)
