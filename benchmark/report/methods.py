"""The methods paragraph for a supplement, with the numbers of this report filled in."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.cases.case import Case
from benchmark.cases.floor import RULE_NAMES
from benchmark.predictions.answers import Reading
from benchmark.report.content import Report
from benchmark.report.number_format import interval, p_value, percent, points, points_interval
from benchmark.report.origin import Origin
from benchmark.report.side_tables import CONTROL_NAMES
from benchmark.report.summary import RunSummary
from benchmark.stats.bootstrap import DRAWS
from mgll.vocabulary.diseases import FUNDUS

#: How the wrong options were drawn, by what the cases' header says.
OPTIONS = {
    "balanced": "Wrong options were drawn within the data set of the photograph and balanced, so that no rule that ignores the"
    " image can be right in more than 25\u202f% of questions",
    "paper": "Wrong options were drawn uniformly, as published for MGLL",
}


def methods_text(report: Report) -> str:
    """The paragraphs, one a line, with an empty line between them."""
    return "\n\n".join(methods(report)) + "\n"


def methods(report: Report) -> Iterator[str]:
    """Paragraphs: the questions, the models, the statistics, the results, the software."""
    yield questions_said(report.cases, report.after.groups, report.header, report.after.primary, report.after.rotations)
    sides = [(report.before, "before"), (report.after, "after")]
    yield " ".join(_model(run, report.origins.get(side, ())) for run, side in sides if run)
    yield _statistics(report)
    yield _results(report)
    yield software(report.header)


def questions_said(
    cases: Sequence[Case], patients: int, header: Mapping[str, Any], primary: Reading, rotations: int
) -> str:
    """What was asked: how many questions about how many images of whom, how options were drawn, and how answers were read."""
    images = len({case.image_sha256 for case in cases})
    sources = Counter(case.source or "a source that is not stated" for case in cases)
    kind = "fundus photographs" if all(case.table is FUNDUS for case in cases) else "images"
    drawn = OPTIONS.get(str(header.get("options")), "How wrong options were drawn is not recorded")
    orders = "one order of its options" if rotations == 1 else f"{rotations} orders of its options"
    if primary.view == "letter":
        read = "the option whose letter the model found most probable"
        if rotations > 1:
            read += ", with probabilities averaged over the orders"
    else:
        read = "the option that the model’s written reply clearly named; any other reply counted as wrong"
    named = ", ".join(f"{name} {n:,}" for name, n in sources.most_common())
    classes = len({case.code for case in cases})
    return (
        f"We asked {len(cases):,} multiple-choice questions with four options about {images:,} {kind} of {patients:,} patients"
        f" or eyes (questions by source: {named}); {classes} different classes were right answers. {drawn}."
        f" Each question was asked in {orders}, and the answer was {read}. Ties counted as their expectation."
    )


def origins_said(origins: Sequence[Origin]) -> str:
    """How a model was made, as far as the folders beside its runs say; empty where they say nothing."""
    said = [_made(origin) for origin in origins[:1]]
    said += [
        f"A record of how it was made could not be read ({text})." for origin in origins for text in origin.missing
    ]
    seeds = [origin.finetuning.settings.get("seed") for origin in origins if origin.finetuning]
    if len(seeds) > 1:
        said.append(f"Fine-tuning seeds were {', '.join(map(str, seeds))}.")
    return " ".join(filter(None, said))


def software(header: Mapping[str, Any]) -> str:
    """The software that answered, with versions."""
    versions = header.get("versions")
    if not isinstance(versions, dict):
        return "Versions of the software are not recorded."
    names = ("mgll-graft", "torch", "transformers", "peft", "python")
    known = [f"{name} {versions[name]}" for name in names if versions.get(name, "not installed") != "not installed"]
    commit = f" (commit {versions['git']})" if versions.get("git", "unknown") not in ("unknown", "") else ""
    return f"Software: {', '.join(known)}{commit}. These results are for research only and say nothing about the care of patients."


def _model(run: RunSummary, origins: Sequence[Origin]) -> str:
    made = origins_said(origins) or "How it was made is not recorded beside its run."
    several = f", in {run.runs} runs that differ in their seeds" if run.runs > 1 else ", in one run (one seed)"
    return f"The model called {run.name} was scored{several}. {made}"


def _made(origin: Origin) -> str:
    parts = []
    graft, tuned = origin.graft, origin.finetuning
    if graft and graft.donor:
        parts.append(
            f"It is the host {graft.host} with the vision tower {_file(graft.donor.path)} in the place of its own."
        )
    elif graft or tuned:
        parts.append(f"It is the host {(graft or tuned).host} with its own vision tower.")  # type: ignore[union-attr]
    if settings := origin.pretraining:
        named = {
            "objective": "objective {}",
            "encoder": "encoder {}",
            "epochs": "{} epochs",
            "batch_size": "batches of {}",
            "learning_rate": "learning rate {}",
            "image_size": "images of {} pixels a side",
            "seed": "seed {}",
        }
        said = ", ".join(form.format(settings[name]) for name, form in named.items() if settings.get(name) is not None)
        seen = graft.donor.origin.get("images_seen") if graft and graft.donor else None
        images = (
            f" on {seen['images']:,} images" if isinstance(seen, dict) and isinstance(seen.get("images"), int) else ""
        )
        parts.append(f"The tower was pretrained{images} ({said}).")
    if tuned:
        run, counts = tuned.settings, {name.replace("_", " "): n for name, n in tuned.trained.items() if n}
        trained = ", ".join(f"{n:,} parameters of the {name}" for name, n in counts.items()) or "no parameter"
        steps = f"{run['steps']:,} steps" if run.get("steps") else f"{run.get('epochs')} epochs"
        parts.append(
            f"It was fine-tuned on {tuned.questions.get('count', 0):,} questions about {tuned.questions.get('images', 0):,} images"
            f" for {steps} with batches of {run.get('batch_size')} (seed {run.get('seed')}); trained were {trained}."
        )
    return " ".join(parts)


def _statistics(report: Report) -> str:
    change, after = report.change, report.after
    several = after.runs > 1 or bool(change and change.of_methods)
    if several:
        intervals = (
            "take seeds and patients as random (crossed variance, Student’s t with Satterthwaite’s degrees of freedom)"
        )
    else:
        intervals = (
            f"are percentile intervals of a bootstrap of {DRAWS:,} draws of whole patients (for a single class Wilson’s interval"
            " for the effective number of its cases, for informedness Student’s t over patients)"
        )
    text = (
        f"All intervals are 95\u202f% intervals and {intervals}. Overall accuracy counts every question alike, the macro average"
        " every class alike; informedness is how much more often a class is chosen where it is true than where it is offered and"
        " false."
    )
    if change and change.of_methods:
        text += " The p-value is of the same model; that of a class is corrected over all classes (Holm)."
    elif change:
        text += (
            " The difference of the two runs was tested by a sign-flip permutation test over patients. With one seed a side,"
            " nothing is claimed about the methods."
        )
    rules = ", ".join(RULE_NAMES.values())
    learned = report.floors.learned_from
    return f"{text} Three rules that never see an image stand beside the models ({rules}), learned from {learned}."


def _results(report: Report) -> str:
    found = [(run.name, run) for run in (report.before, report.after) if run]
    said = [
        f"{name} answered {percent(run.overall.accuracy)} correctly ({interval(run.overall)}; macro average"
        f" {percent(run.macro.value)}, {interval(run.macro)})"
        for name, run in found
    ]
    text = "; ".join(said) + "."
    if change := report.change:
        text += (
            f" The difference was {points(change.overall.value)} percentage points ({points_interval(change.overall)};"
            f" {p_value(change.p)})."
        )
    for role, control in report.controls.items():
        text += (
            f" {CONTROL_NAMES[role]} instead of the cases’ own: {report.after.name} answered"
            f" {percent(control.run.overall.accuracy)} correctly ({interval(control.run.overall)})."
        )
    floors = report.floors.of(report.questions.overall())
    return text + " Without looking: " + ", ".join(f"{RULE_NAMES[r]} {percent(v)}" for r, v in floors.items()) + "."


def _file(path: str) -> str:
    return "/".join(path.replace("\\", "/").rsplit("/", 2)[-2:])
