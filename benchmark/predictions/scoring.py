"""Putting the cases to a model, so that a killed run goes on, processes share the work, and nothing is ever mixed."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.cases.case import Case
from benchmark.predictions.batches import Asking, Batches
from benchmark.predictions.file import (
    FILE,
    IDENTITY,
    Prediction,
    Run,
    append_rows,
    cases_sha256,
    journal_path,
    journals,
    questions_sha256,
    read_journal,
    read_run,
    start_journal,
    write_run,
)
from benchmark.scorers.scorer import Scorer
from mgll.formats import FormatError
from mgll.run_folder import locked

#: How far a kept probability may be from a second scoring before a run starts anew: other code or precision, not rounding.
TOLERANCE = 1e-3

#: Entry of the header: how prompts about one image attended, where it was measured (`PreparingScorer.attention`).
ATTENTION = "attention"

Rows = dict[tuple[str, int], Prediction]


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
    batches = Batches(cases, scorer, asking)
    with locked(out, by_this_process=processes.index == 0):
        return _score(batches, out, header, processes)


def _score(batches: Batches, out: Path, header: dict[str, Any], processes: Processes) -> Run:
    """Score what is missing, in a folder that no other run writes into."""
    if processes.index == 0:
        _prepare(out, header, batches)
    processes.wait()
    done: Rows = {}
    if not (out / FILE).exists():
        begun = read_journal(journal_path(out, 0))
        batches.attend(begun.header.get(ATTENTION))
        done = _rows(begun)
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


def _score_share(
    batches: Batches, missing: Sequence[int], out: Path, header: dict[str, Any], processes: Processes
) -> None:
    """Score every n-th of the missing batches into this process's journal."""
    path = journal_path(out, processes.index)
    journal = path.open("a", encoding="utf-8") if processes.index == 0 else start_journal(path, header, ())
    share = missing[processes.index :: processes.count]
    bar = tqdm(
        total=len(batches),
        initial=len(batches) - len(missing),
        unit="batch",
        desc="scoring",
        disable=True if processes.index else None,
    )
    with journal, bar:
        for rows in batches.scored(share):
            append_rows(journal, rows)
            bar.update(processes.count)


def _prepare(out: Path, header: dict[str, Any], batches: Batches) -> None:
    """Leave a finished file, or one journal with what holds of all that was there."""
    rows = _kept_rows(out, header, batches)
    if not rows and batches.missing(rows) and (faster := batches.faster_attention()):
        header[ATTENTION] = faster
    if batches.missing(rows) or not (out / FILE).exists():
        start_journal(journal_path(out, 0), header, batches.ordered(rows)).close()
        (out / FILE).unlink(missing_ok=True)
    for path in journals(out):
        if path != journal_path(out, 0) or (out / FILE).exists():
            path.unlink()


def _kept_rows(out: Path, header: dict[str, Any], batches: Batches) -> Rows:
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
        if ATTENTION in found.header:  # what was measured once holds for the whole run, or its last digits would change
            header[ATTENTION] = found.header[ATTENTION]
    batches.attend(header.get(ATTENTION))
    if reason := _what_changed(rows, batches):
        for path in kept:
            _set_aside(path, reason)
        header.pop(ATTENTION, None)
        return {}
    if rows:
        asked = len(batches.cases) * batches.asking.rotations
        print(f"{out}: {len(rows)} of {asked} answers are there, going on", file=sys.stderr)
    return rows


def _rows(run: Run) -> Rows:
    return {(row.case, row.rotation): row for row in run.predictions}


def _what_changed(rows: Rows, batches: Batches) -> str:
    """Score the first batch that is there again: no hash knows the code between file and probability."""
    there = sorted(set(range(len(batches))) - set(batches.missing(rows)))
    if not there:
        return ""
    pairs = [(again, rows[again.case, again.rotation]) for again in next(batches.scored(there[:1]))]
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
