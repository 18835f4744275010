"""One report from predictions: how good a model is, and how much better or worse than another, with the uncertainty.

`python -m benchmark.report --after RUN [RUN ...] --cases cases.jsonl --out DIR [--before RUN [RUN ...]] [--blind RUN]
[--shuffled RUN] [--training train.jsonl] [--paper HOST]` makes it again from finished runs; `benchmark/run_mcq.py` makes it at the
end of scoring. Several runs are those of one method under several seeds: only they say something about the method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tqdm import tqdm

from benchmark.cases.case import Case
from benchmark.cases.floor import Floors, floors, questions_of
from benchmark.cases.images import Shown
from benchmark.paper.rows import PAPER_HOSTS
from benchmark.predictions.answers import Answers, answers_of
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, check_complete, differences
from benchmark.report.origin import Origin
from benchmark.report.summary import (
    Change,
    RunSummary,
    check_comparable,
    compare,
    compare_runs,
    summarise,
    summarise_runs,
)
from benchmark.stats.bootstrap import DRAWS, Resampling
from benchmark.stats.confusion import Confusion, confusion
from benchmark.stats.numbers import Questions
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: What each run of a report is: the one reported on, the one before it, and the same model shown other images.
Role = Literal["before", "after", "blind", "shuffled", "source", "border"]

ControlRole = Literal["blind", "shuffled", "source", "border"]

#: The images that a control run must have been shown.
CONTROLS: Mapping[ControlRole, Shown] = {
    "blind": "blank",
    "shuffled": "shuffled",
    "source": "source",
    "border": "border",
}


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
        answers: the answers of each run, of several runs of one method the first's.
        questions: what numbers are made of.
        after: the run reported on, or the method of several.
        before: the run it is compared with.
        change: after minus before.
        controls: the runs of the same model on images that hide the finding (`CONTROLS`).
        confusions: of `before` and `after`.
        floors: what rules that do not look would pick.
        headers: of the predictions files, under the role each plays.
        paper: our name of the host whose published figures stand beside these; None for none.
        notes: what a reader must know beside the numbers.
        origins: how the models of `before` and `after` were made, run by run, as far as their folders say.
    """

    cases: tuple[Case, ...]
    answers: Mapping[Role, Answers]
    questions: Questions
    after: RunSummary
    before: RunSummary | None
    change: Change | None
    controls: Mapping[ControlRole, Control]
    confusions: Mapping[Role, Confusion]
    floors: Floors
    headers: Mapping[Role, Mapping[str, object]]
    paper: str | None = None
    notes: tuple[str, ...] = ()
    origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)

    @property
    def table(self) -> ClassTable:
        """The table of the classes that are asked about."""
        return self.cases[0].table if self.cases else FUNDUS

    @property
    def header(self) -> Mapping[str, object]:
        """Header of the run reported on."""
        return self.headers["after"]


def build_report(
    cases: Sequence[Case],
    after: Run | Sequence[Run],
    before: Run | Sequence[Run] | None = None,
    blind: Run | None = None,
    any_prompt: bool = False,
    draws: int = DRAWS,
    shuffled: Run | None = None,
    paper: str | None = None,
    training: Sequence[Case] | None = None,
    source: Run | None = None,
    border: Run | None = None,
) -> Report:
    """Compute a report.

    Args:
        cases: the cases that the runs answered.
        after: the run to report on, or several of one method under several seeds.
        before: a run over the same cases to compare it with, or several.
        blind: a run of the same model on blank images.
        any_prompt: compare runs whose hosts wrap the same question differently; the report says so.
        draws: of the bootstrap.
        shuffled: a run of the same model on the images of other cases.
        paper: host whose published figures to set beside, by our name of it; default the run's own host where there are any.
        training: questions that the models were tuned on: what the floors know. Default: the cases' own answers.
        source: a run of the same model on the mean image of each photograph's source.
        border: a run of the same model on the size and border of each photograph.

    Raises:
        ComparisonError: if the runs are not of these cases, or not comparable; names what differs, or
            how many answers a run lacks. Also for one run on a side and several on the other.
        ValueError: if there are no published figures for `paper`.
    """
    check_published(paper)
    afters, befores = _several(after), _several(before)
    after, first_before = afters[0], befores[0] if befores else None
    for run in afters:
        if cases_sha256(cases) != run.header["cases_sha256"]:
            raise ComparisonError(f"{run.name!r} answered other cases than the {len(cases)} given")
    check_different(afters, befores)
    if befores and 1 in (len(befores), len(afters)) and len(befores) != len(afters):
        raise ComparisonError(
            f"{len(befores)} before and {len(afters)} after: what differs between two methods takes two runs or more of each; give"
            " one run on each side to compare two sets of weights"
        )
    for run in (*afters, *befores, *filter(None, (blind, shuffled, source, border))):
        if run.header["cases_sha256"] == after.header["cases_sha256"]:  # of other cases `differences` says more
            check_complete(run, cases)
    for run in (*afters[1:], *befores):
        check_comparable(run, after, any_prompt)
    found: dict[ControlRole, Run | None] = {"blind": blind, "shuffled": shuffled, "source": source, "border": border}
    controls = {role: run for role, run in found.items() if run}
    given: dict[Role, Run] = {"before": first_before, "after": after} if first_before else {"after": after}
    for control, run in controls.items():
        _check_control(after, control, run)
        given[control] = run
    second = answers_of(after)
    answers = {role: second if role == "after" else answers_of(run, second.cases) for role, run in given.items()}
    by_id = {case.id: case for case in cases}
    asked = tuple(by_id[case] for case in second.cases)
    drawn = Resampling(second.groups, second.codes, draws)
    questions = questions_of(asked)
    sides = [[second, *(answers_of(run, second.cases) for run in afters[1:])]]
    sides.append([answers["before"], *(answers_of(run, second.cases) for run in befores[1:])] if befores else [])
    with tqdm(total=3 + len(controls), desc="intervals", unit="part", leave=False, disable=None) as bar:
        earlier = summarise(answers["before"], questions, drawn) if befores else None
        change = compare(answers["before"], second, questions, drawn) if befores else None
        bar.update()
        now = summarise_runs(summarise(second, questions, drawn), sides[0], questions)
        bar.update()
        then = summarise_runs(earlier, sides[1], questions) if earlier else None
        changed = compare_runs(change, sides[1], sides[0], questions) if change else None
        bar.update()
        hidden = {}
        for role in controls:
            hidden[role] = _control(answers[role], second, questions, drawn)
            bar.update()
    return Report(
        cases=asked,
        answers=answers,
        questions=questions,
        after=now,
        before=then,
        change=changed,
        controls=hidden,
        confusions={role: _confusion(asked, answers[role]) for role in given if role not in controls},
        floors=floors(asked, training),
        headers={role: run.header for role, run in given.items()},
        paper=paper or (_published_host(after) if questions.of_paper else None),
        notes=tuple(_notes(afters, befores)),
    )


def _several(runs: Run | Sequence[Run] | None) -> list[Run]:
    return [] if runs is None else [runs] if isinstance(runs, Run) else list(runs)


def check_different(*sides: Sequence[Run]) -> None:
    """Refuse the same weights twice on one side: copies of a run are not seeds.

    Raises:
        ComparisonError: naming the run.
    """
    for side in sides:
        weights = [run.header["model_sha256"] for run in side]
        if len(set(weights)) < len(weights):
            raise ComparisonError(
                f"{len(weights)} runs of {side[0].name!r} are of {len(set(weights))} sets of weights; runs of one side must be of"
                " different seeds"
            )


def check_published(host: str | None) -> None:
    """Refuse a host without published figures.

    Raises:
        ValueError: naming those that have some.
    """
    if host is not None and host not in PAPER_HOSTS:
        raise ValueError(f"the paper has no figures for {host!r}; it has them for {', '.join(PAPER_HOSTS)}")


def _control(control: Answers, after: Answers, questions: Questions, drawn: Resampling) -> Control:
    return Control(summarise(control, questions, drawn), compare(control, after, questions, drawn))


def _confusion(cases: Sequence[Case], answers: Answers) -> Confusion:
    return confusion([case.option_codes for case in cases], answers.truth.tolist(), answers.picked(answers.primary))


def _published_host(run: Run) -> str | None:
    host = run.header.get("host")
    return host if isinstance(host, str) and host in PAPER_HOSTS else None


def _notes(afters: Sequence[Run], befores: Sequence[Run]) -> list[str]:
    notes = []
    if max(len(afters), len(befores)) > 1:
        notes.append(
            "Accuracies, averages and differences are means over the runs; fixed and broken answers, controls, orders, letters,"
            " confusions, calibration and the questions shown are those of the first run."
        )
    if not befores:
        return notes
    before, after = befores[0], afters[0]
    notes += [
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
