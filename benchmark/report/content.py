"""One report from predictions: how good a model is, and how much better or worse than another, with the uncertainty.

`python -m benchmark.report --after RUN --cases cases.jsonl --out DIR [--before RUN] [--blind RUN] [--shuffled RUN]
[--paper HOST]` makes it again from finished runs; `benchmark/run_mcq.py` makes it at the end of scoring.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.cases.case import Case
from benchmark.cases.floor import Floor, prior_floor
from benchmark.cases.images import Shown
from benchmark.paper.rows import PAPER_HOSTS
from benchmark.predictions.answers import Answers, answers_of
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, check_complete, differences
from benchmark.report.summary import Change, RunSummary, check_comparable, compare, summarise
from benchmark.stats.bootstrap import DRAWS, Resampling
from benchmark.stats.confusion import Confusion, confusion

#: What each run of a report is: the one reported on, the one before it, and the same model shown other images.
Role = Literal["before", "after", "blind", "shuffled"]

ControlRole = Literal["blind", "shuffled"]

#: The images that a control run must have been shown.
CONTROLS: Mapping[ControlRole, Shown] = {"blind": "blank", "shuffled": "shuffled"}


@dataclass(frozen=True)
class Control:
    """The same model on other images than the cases' own, and how much better the answers with the cases' own images are."""

    run: RunSummary
    gain: Change


@dataclass(frozen=True)
class Report:
    """All that a report says, whatever its form.

    Attributes:
        cases: in the order of `answers`.
        answers: the answers of each run.
        after: the run reported on.
        before: the run it is compared with.
        change: after minus before.
        controls: the runs of the same model on blank and on shuffled images.
        confusions: of `before` and `after`.
        floor: accuracy without looking, from class frequency alone.
        source_floors: data set -> the same over its cases, with its frequencies.
        headers: of the predictions files, under the role each plays.
        paper: our name of the host whose published figures stand beside these; None for none.
        notes: what a reader must know beside the numbers.
    """

    cases: tuple[Case, ...]
    answers: Mapping[Role, Answers]
    after: RunSummary
    before: RunSummary | None
    change: Change | None
    controls: Mapping[ControlRole, Control]
    confusions: Mapping[Role, Confusion]
    floor: Floor
    source_floors: Mapping[str, float]
    headers: Mapping[Role, Mapping[str, object]]
    paper: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> Mapping[str, object]:
        """Header of the run reported on."""
        return self.headers["after"]


def build_report(
    cases: Sequence[Case],
    after: Run,
    before: Run | None = None,
    blind: Run | None = None,
    any_prompt: bool = False,
    draws: int = DRAWS,
    shuffled: Run | None = None,
    paper: str | None = None,
) -> Report:
    """Compute a report.

    Args:
        cases: the cases that the runs answered.
        after: the run to report on.
        before: a run over the same cases to compare it with.
        blind: a run of the same model on blank images.
        any_prompt: compare runs whose hosts wrap the same question differently; the report says so.
        draws: of the bootstrap.
        shuffled: a run of the same model on the images of other cases.
        paper: host whose published figures to set beside, by our name of it; default the run's own host where there are any.

    Raises:
        ComparisonError: if the runs are not of these cases, or not comparable; names what differs, or
            how many answers a run lacks.
        ValueError: if there are no published figures for `paper`.
    """
    check_published(paper)
    if cases_sha256(cases) != after.header["cases_sha256"]:
        raise ComparisonError(f"{after.name!r} answered other cases than the {len(cases)} given")
    for run in filter(None, (after, before, blind, shuffled)):
        if run.header["cases_sha256"] == after.header["cases_sha256"]:  # of other cases `differences` says more
            check_complete(run, cases)
    if before:
        check_comparable(before, after, any_prompt)
    found: dict[ControlRole, Run | None] = {"blind": blind, "shuffled": shuffled}
    controls = {role: run for role, run in found.items() if run}
    given: dict[Role, Run] = {"before": before, "after": after} if before else {"after": after}
    for control, run in controls.items():
        _check_control(after, control, run)
        given[control] = run
    second = answers_of(after)
    answers = {role: second if role == "after" else answers_of(run, second.cases) for role, run in given.items()}
    by_id = {case.id: case for case in cases}
    asked = tuple(by_id[case] for case in second.cases)
    drawn = Resampling(second.groups, second.codes, draws)
    return Report(
        cases=asked,
        answers=answers,
        after=summarise(second, drawn),
        before=summarise(answers["before"], drawn) if before else None,
        change=compare(answers["before"], second, drawn) if before else None,
        controls={role: _control(answers[role], second, drawn) for role in controls},
        confusions={role: _confusion(asked, answers[role]) for role in given if role not in controls},
        floor=prior_floor(cases),
        source_floors={
            source: prior_floor([case for case in cases if case.source == source]).overall
            for source in dict.fromkeys(case.source for case in cases)
        },
        headers={role: run.header for role, run in given.items()},
        paper=paper or _published_host(after),
        notes=tuple(_notes(after, before)),
    )


def check_published(host: str | None) -> None:
    """Refuse a host without published figures.

    Raises:
        ValueError: naming those that have some.
    """
    if host is not None and host not in PAPER_HOSTS:
        raise ValueError(f"the paper has no figures for {host!r}; it has them for {', '.join(PAPER_HOSTS)}")


def _control(control: Answers, after: Answers, drawn: Resampling) -> Control:
    return Control(summarise(control, drawn), compare(control, after, drawn))


def _confusion(cases: Sequence[Case], answers: Answers) -> Confusion:
    return confusion([case.option_codes for case in cases], answers.truth.tolist(), answers.picked(answers.primary))


def _published_host(run: Run) -> str | None:
    host = run.header.get("host")
    return host if isinstance(host, str) and host in PAPER_HOSTS else None


def _notes(after: Run, before: Run | None) -> list[str]:
    if before is None:
        return []
    notes = [
        f"Not the same prompts: {text.removeprefix('prompts: ')}."
        for text in differences(before, after)
        if text.startswith("prompts")
    ]
    views = [", ".join(str(view) for view in run.header.get("views", ())) for run in (before, after)]
    if views[0] != views[1]:
        notes.append(f"Not read in the same views: {views[0]} before, {views[1]} after.")
    return notes


def _check_control(after: Run, role: ControlRole, control: Run) -> None:
    shown = CONTROLS[role]
    if control.header["images"] != shown:
        raise ComparisonError(
            f"{control.name!r} was given as {role} run, but it saw {control.header['images']} images instead of {shown} ones"
        )
    if found := differences(after, control):
        raise ComparisonError(f"the {role} run and {after.name!r} differ in " + "; ".join(found))
    if control.header["model_sha256"] != after.header["model_sha256"]:
        raise ComparisonError(f"the {role} run is of another model than {after.name!r}")
