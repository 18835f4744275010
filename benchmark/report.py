"""One report from predictions: how good a model is, and how much better or worse than another, with the uncertainty.

`python -m benchmark.report --after RUN --cases cases.jsonl --out DIR [--before RUN] [--blind RUN]` makes it again from finished
runs; `benchmark/run_mcq.py` makes it at the end of scoring.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.cases import Case, read_cases
from benchmark.floor import Floor, prior_floor
from benchmark.predictions import Prediction, Run, cases_sha256, differences, read_run
from benchmark.significance import DRAWS
from benchmark.summary import Change, ComparisonError, RunSummary, compare, summarise
from mgll.files import write_text
from mgll.formats import FormatError

#: Cases embedded in the page, and how many of them at most show a fixed (and as many a broken) answer.
SHOWN, FLIPPED = 60, 20

#: What became of a case, in the order of the filter. The first four are of two runs, the others of one.
OUTCOMES = {
    "fixed": "Fixed",
    "broken": "Broken",
    "both-wrong": "Both wrong",
    "both-right": "Both right",
    "wrong": "Wrong",
    "right": "Right",
}


@dataclass(frozen=True)
class ShownCase:
    """A case of the browser with what both runs (or the one) said."""

    case: Case
    before: Prediction | None
    after: Prediction

    @property
    def outcome(self) -> str:
        """A key of `OUTCOMES`."""
        return outcome(self.before, self.after)


@dataclass(frozen=True)
class Report:
    """All that a report says, whatever its form.

    Attributes:
        after: the run reported on.
        before: the run it is compared with.
        change: after minus before.
        blind: the same model on blank images.
        floor: accuracy without looking, from class frequency alone.
        source_floors: data set -> the same over its cases, with its frequencies.
        shown: cases of the browser.
        outcomes: how many cases fell under each outcome, shown or not.
        headers: of the predictions files, under the role each plays.
        notes: what a reader must know beside the numbers.
    """

    after: RunSummary
    before: RunSummary | None
    change: Change | None
    blind: RunSummary | None
    floor: Floor
    source_floors: dict[str, float]
    shown: tuple[ShownCase, ...]
    outcomes: dict[str, int]
    headers: dict[str, dict[str, object]]
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> dict[str, object]:
        """Header of the run reported on."""
        return self.headers["after" if self.before else "model"]


def build_report(
    cases: Sequence[Case],
    after: Run,
    before: Run | None = None,
    blind: Run | None = None,
    any_prompt: bool = False,
    draws: int = DRAWS,
) -> Report:
    """Compute a report.

    Args:
        cases: the cases that the runs answered.
        after: the run to report on.
        before: a run over the same cases to compare it with.
        blind: a run of the same model on blank images.
        any_prompt: compare runs whose hosts wrap the same question differently; the report says so.
        draws: of the bootstrap.

    Raises:
        ComparisonError: if the runs are not of these cases, or not comparable; names what differs.
    """
    if cases_sha256(cases) != after.header["cases_sha256"]:
        raise ComparisonError(f"{after.name!r} answered other cases than the {len(cases)} given")
    if blind is not None:
        _check_blind(after, blind)
    change = compare(before, after, draws, any_prompt) if before else None
    notes = []
    if before and (wrapped := [text for text in differences(before, after) if text.startswith("prompts")]):
        notes.append(f"Not the same prompts: {wrapped[0].removeprefix('prompts: ')}.")
    asked = {case.id: case for case in cases}
    earlier = {row.case: row for row in before.predictions if row.rotation == 0} if before else {}
    answered = [
        ShownCase(asked[row.case], earlier.get(row.case), row) for row in after.predictions if row.rotation == 0
    ]
    counts = [item.outcome for item in answered]
    runs = {"before": before, "after" if before else "model": after, "blind": blind}
    return Report(
        after=summarise(after, draws),
        before=summarise(before, draws) if before else None,
        change=change,
        blind=summarise(blind, draws) if blind else None,
        floor=prior_floor(cases),
        source_floors={
            source: prior_floor([case for case in cases if case.source == source]).overall
            for source in dict.fromkeys(case.source for case in cases)
        },
        shown=choose_cases(answered),
        outcomes={name: counts.count(name) for name in OUTCOMES if name in counts},
        headers={role: run.header for role, run in runs.items() if run},
        notes=tuple(notes),
    )


def write_report(out: str | os.PathLike[str], report: Report) -> dict[str, Path]:
    """Write `report.md`, `per_class.csv` and `report.html` into a directory, each atomically; return their paths by name."""
    from benchmark.report_html import page
    from benchmark.report_tables import csv_table
    from benchmark.report_text import markdown

    texts = {"report.md": markdown(report), "per_class.csv": csv_table(report), "report.html": page(report)}
    for name, text in texts.items():
        write_text(Path(out) / name, text)
    return {name: Path(out) / name for name in texts}


def report_runs(
    out: str | os.PathLike[str],
    cases: str | os.PathLike[str] | Sequence[Case],
    after: str | os.PathLike[str],
    before: str | os.PathLike[str] | None = None,
    blind: str | os.PathLike[str] | None = None,
    any_prompt: bool = False,
) -> Report:
    """Make and write the report of finished runs (output directories of run_mcq, or their predictions files).

    Raises:
        FormatError: if a file is not what it should be.
        ComparisonError: as `build_report`.
    """
    asked = read_cases(cases) if isinstance(cases, str | os.PathLike) else cases
    before_run, blind_run = (read_run(path) if path else None for path in (before, blind))
    report = build_report(asked, read_run(after), before_run, blind_run, any_prompt)
    write_report(out, report)
    return report


def choose_cases(answered: Sequence[ShownCase], count: int = SHOWN, flipped: int = FLIPPED) -> tuple[ShownCase, ...]:
    """Cases worth looking at, in their own order; the same every time.

    Up to `flipped` fixed and as many broken ones, then the rest up to `count`, each time class by class in turn.
    """
    generator = np.random.default_rng(0)
    order = [answered[index] for index in generator.permutation(len(answered))]
    fixed, broken = (_in_turn([item for item in order if item.outcome == name]) for name in ("fixed", "broken"))
    taken = [*fixed[:flipped], *broken[:flipped]]
    others = _in_turn([item for item in order if item.outcome not in ("fixed", "broken")])
    taken += [*others, *fixed[flipped:], *broken[flipped:]][: max(count - len(taken), 0)]
    chosen = {item.case.id for item in taken[:count]}
    return tuple(item for item in answered if item.case.id in chosen)


def outcome(before: Prediction | None, after: Prediction) -> str:
    """What became of a case: a key of `OUTCOMES`."""
    if before is None:
        return "right" if after.correct else "wrong"
    if before.correct == after.correct:
        return "both-right" if after.correct else "both-wrong"
    return "fixed" if after.correct else "broken"


def _in_turn(items: Sequence[ShownCase]) -> list[ShownCase]:
    seen: dict[str, int] = {}
    turns = []
    for position, item in enumerate(items):
        turns.append((seen.get(item.case.code, 0), position))
        seen[item.case.code] = turns[-1][0] + 1
    return [items[position] for _, position in sorted(turns)]


def _check_blind(after: Run, blind: Run) -> None:
    if blind.header["images"] != "blank":
        raise ComparisonError(f"{blind.name!r} was given as blind run, but it saw the images")
    if found := differences(after, blind):
        raise ComparisonError(f"the blind run and {after.name!r} differ in " + "; ".join(found))
    if blind.header["model_sha256"] != after.header["model_sha256"]:
        raise ComparisonError(f"the blind run is of another model than {after.name!r}")


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark.report", description=__doc__)
    parser.add_argument("--after", required=True, metavar="RUN", help="output directory of run_mcq to report on")
    parser.add_argument("--before", metavar="RUN", help="run over the same cases to compare it with")
    parser.add_argument("--blind", metavar="RUN", help="run of the same model with --blind")
    parser.add_argument("--cases", required=True, metavar="FILE", help="the cases that were answered")
    parser.add_argument("--out", required=True, metavar="DIR", help="where report.md, per_class.csv, report.html go")
    parser.add_argument("--any-prompt", action="store_true", help="compare hosts with different prompt templates")
    options = parser.parse_args(arguments)
    from benchmark.report_text import print_report

    try:
        report = report_runs(
            options.out, options.cases, options.after, options.before, options.blind, options.any_prompt
        )
    except (FormatError, ComparisonError) as error:
        print(error)
        return 1
    print_report(report)
    print(f"wrote {Path(options.out) / 'report.html'}, report.md and per_class.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
