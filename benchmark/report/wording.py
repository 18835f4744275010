"""A report in words: the sentences that every form of it shares."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmark.cases.floor import RULE_NAMES
from benchmark.predictions.answers import Reading
from benchmark.report.content import Report
from benchmark.report.number_format import class_name, interval, p_value, percent, points, points_interval
from benchmark.report.side_tables import CONTROL_NAMES
from benchmark.report.summary import SEEDS_BY_CLASS

#: What a control run saw instead of the cases' own images.
SHOWN_INSTEAD = {
    "blank": "blank images only",
    "shuffled": "the images of other cases",
    "source": "the mean image of each photograph’s source",
    "border": "only the size and border of each photograph",
}

DISCLAIMER = "Research use only, not for diagnosis."


def answer(report: Report) -> tuple[str, str, str]:
    """The finding in a sentence: what comes before, the figure that matters, what comes after."""
    before, after, n = report.before, report.after, f"{report.after.overall.n:,} questions"
    if before is None or report.change is None:
        return (
            f"{after.name} answers {after.overall.correct:,.4g} of {n} correctly: "
            if after.overall.correct % 1
            else f"{after.name} answers {after.overall.correct:,.0f} of {n} correctly: ",
            f"{percent(after.overall.accuracy)} (95\u202f% interval {interval(after.overall)})",
            f"; counting every disease alike {percent(after.macro.value)} ({interval(after.macro)})."
            f" Without looking at the image {floors_in_words(report)}.",
        )
    change = report.change
    test = "with runs and patients as random" if change.of_methods else "in the sign-flip test over patients"
    return (
        f"Of {n}, {before.name} (before) answers {percent(before.overall.accuracy)} correctly and {after.name} (after)"
        f" {percent(after.overall.accuracy)}: after is ",
        f"{points(change.overall.value)} points",
        f" (95\u202f% interval {points_interval(change.overall)}), {p_value(change.p)} {test}."
        f" Counting every disease alike, the change is {points(change.macro.value)} points ({points_interval(change.macro)});"
        f" in informedness, which a liking for names can't move, {points(change.informedness.value)}"
        f" ({points_interval(change.informedness)}). Without looking at the image {floors_in_words(report)}.",
    )


def floors_in_words(report: Report) -> str:
    """What the three rules that do not look score overall, as the end of a sentence."""
    found = report.floors.of(report.questions.overall())
    scores = [f"{RULE_NAMES[rule]} gives {percent(value)}" for rule, value in found.items()]
    return f"{', '.join(scores[:-1])} and {scores[-1]}"


def verdict(report: Report) -> str:
    """What the difference does and does not say; empty for one run."""
    change = report.change
    if change is None:
        return ""
    excludes_zero = change.overall.low > 0 or change.overall.high < 0
    if change.settled:
        text = "The interval leaves out zero and the test agrees: chance alone would rarely give such a difference."
    elif excludes_zero or change.p < 0.05:
        text = "Interval and test do not agree: take the difference as open until more questions are asked."
    else:
        text = "Zero lies within the interval: with this many questions the two can't be told apart."
    return f"{text} {seeds(report)} {could_have_shown(report)}"


def seeds(report: Report) -> str:
    """Whether the numbers say something about a method or only about sets of weights, and how many seeds it would take."""
    change, after = report.change, report.after
    if change is None:
        if after.runs == 1:
            return "One run was given: its numbers are those of one set of weights; another seed would give others."
        scatter = after.over_seeds["overall"].between_runs
        return (
            f"{after.runs} runs were given: intervals take runs and patients as random. Between runs the overall accuracy"
            f" scatters by {100 * scatter:.1f} points (standard deviation)."
        )
    if not change.of_methods:
        return (
            "1 run and 1 run were compared: nothing is claimed about the methods that made them, only about these sets of weights."
            " Another seed may turn the difference round; give several runs of each side (--before RUN RUN ... --after RUN RUN"
            " ...)."
        )
    found = change.over_seeds["overall"]
    few, least = min(change.runs), found.detectable(min(change.runs))
    text = (
        f"{change.runs[0]} runs before and {change.runs[1]} after were compared: intervals and p take runs and patients as random."
        f" Between runs of one method the overall accuracy scatters by {100 * found.between_runs:.1f} points (standard deviation);"
        f" with {few} runs a side a true difference of {100 * least:.1f} points would be found four times out of five."
    )
    needed = {size: found.seeds_needed(size / 100) for size in (1, 2, 5)}
    wanted = [
        f"{size} {'point' if size == 1 else 'points'}: "
        + (f"{count} runs a side" if count else "more patients than these, however many runs")
        for size, count in needed.items()
    ]
    return f"{text} What it would take to find a difference so often: {'; '.join(wanted)}."


def could_have_shown(report: Report) -> str:
    """How small a difference between two sets of weights these questions could show; empty for one run, or for methods."""
    if report.change is None or report.change.of_methods:
        return ""
    could = report.change.detectable
    if could.difference != could.difference:
        return f"{could.n:,} questions are too few to show any difference reliably."
    return (
        f"The smallest difference between two sets of weights that these {could.n:,} questions could be expected to show (four"
        f" times out of five) is {100 * could.difference:.1f} points."
    )


def looking(report: Report) -> str:
    """Whether the answers depend on the image, as far as floors and control runs tell."""
    after = report.after
    found = report.floors.of(report.questions.overall())
    floor = max(found.values())
    text = f"Without looking at the image {floors_in_words(report)} (learned from {report.floors.learned_from})."
    if report.header["images"] != "own":
        shown = SHOWN_INSTEAD[str(report.header["images"])]
        return f"{text} {after.name} saw {shown}: whatever it scores, it did not need the photographs for."
    for role, control in report.controls.items():
        text += (
            f" {CONTROL_NAMES[role]} instead: {percent(control.run.overall.accuracy)} ({interval(control.run.overall)});"
            f" the cases’ own images gain {points(control.gain.overall.value)} points"
            f" ({points_interval(control.gain.overall)})."
        )
    text += f" With the images {after.name} scores {percent(after.overall.accuracy)} ({interval(after.overall)})"
    above_floor = after.overall.low > floor
    if not report.controls:
        text += ": more than any of these rules." if above_floor else ": these results do not show that it uses them."
        return f"{text} A run on blank images (--blind) was not given."
    if any(control.gain.overall.low <= 0 for control in report.controls.values()):
        return f"{text}: these results do not show that it uses them."
    return f"{text}: it uses them" + ("." if above_floor else ", though a rule that does not look would do as well.")


def holding(report: Report) -> str:
    """How far the answers depend on the order of the options and on how they are read."""
    after = report.after
    view = after.primary.view
    if after.rotations == 1:
        text = "Each question was asked in one order of its options; what a liking for a letter adds can't be told from it."
    else:
        stored, every = (after.readings[Reading(view, way)].overall for way in ("stored", "all"))
        text = (
            f"Each of the {after.overall.n:,} questions was asked in {after.rotations} orders of its options. The answer that"
            f" counts is the option ahead on average: {percent(after.overall.accuracy)} ({interval(after.overall)}) are right,"
            f" against {percent(stored.accuracy)} ({interval(stored)}) in the stored order alone. In every order right are"
            f" {percent(every.accuracy)} ({interval(every)}); {percent(after.consistency[view])} keep their answer in all orders."
        )
    if after.replies:
        text += f" {len(after.unnamed):,} of {after.replies:,} replies in words name no option; they count as wrong."
    return text + ties(report) + letter_mass(report)


def ties(report: Report) -> str:
    """How many answers tie between options, of each run of the comparison and of the stored order beside the average."""
    text = ""
    for role in ("before", "after"):
        if role not in report.answers:
            continue
        answers = report.answers[role]
        reading = answers.primary
        whose = f" of the run {role}" if report.before else ""
        if number := answers.ties(reading):
            text += (
                f" {number:,} of {len(answers.cases):,} answers{whose} {_verb(number, 'tie')} between options; each counts as its"
                " expectation."
            )
        stored = Reading(reading.view, "stored")
        if reading != stored and (number := answers.ties(stored)):
            text += f" In the stored order alone {number:,}{whose} {_verb(number, 'tie')}."
    return text


def letter_mass(report: Report) -> str:
    """How much of its probability the model gives the letters at all; empty where no run recorded it."""
    text = ""
    for role in ("before", "after"):
        known = report.answers[role].letter_mass if role in report.answers else np.array([])
        known = known[~np.isnan(known)]
        if known.size:
            low = int((known < 0.5).sum())
            text += (
                f" Of the probability of its whole vocabulary the model{' ' + role if report.before else ''} gives the four letters"
                f" {percent(float(np.median(known)))} (median); {low:,} of {known.size:,} answers give them less than half, so that"
                " it would rather have written something else."
            )
    return text


def _verb(number: int, verb: str) -> str:
    return f"{verb}s" if number == 1 else verb


def method(report: Report) -> Iterator[tuple[str, str]]:
    """How the numbers are made, as terms and explanations."""
    yield "Questions", _questions(report)
    yield "Answers", _answers(report)
    yield (
        "Intervals",
        "All are 95\u202f% intervals. Those of one run draw whole patients or eyes"
        f" ({report.after.groups:,} here), because images of one patient are alike: by bootstrap overall, for averages and"
        " differences; a single disease or source has Wilson's interval for the effective number of its cases. Those of several"
        " runs"
        " take runs and patients as random, as studies of readers do, with Student's t.",
    )
    yield "Seeds", seeds(report)
    if report.change:
        test, could = report.change.mcnemar, report.change.detectable
        asked = (
            "p is that of the difference's interval over runs and patients."
            if report.change.of_methods
            else f"The sign-flip permutation test asks it of whole patients: {p_value(report.change.p)}."
        )
        yield (
            "Test of the difference",
            f"{asked} {test.only_after} questions were fixed and {test.only_before} broken; McNemar's exact test, which takes every"
            f" question for a patient of its own and so rejects too often, gives {p_value(test.p)}. By disease p is that of the"
            f" change in informedness, corrected for the {len(report.change.class_p)} diseases tested (Holm), and given only with"
            f" {SEEDS_BY_CLASS} runs a side or more: two sets of weights nearly always differ in some disease.",
        )
        if not report.change.of_methods:
            yield (
                "Smallest difference",
                f"{could_have_shown(report)} It is that of the exact McNemar test at 5\u202f%, with the share of questions on which"
                f" exactly one run is right ({percent(could.discordant)})"
                + (
                    f" and patients counted once (a design effect of {could.design_effect:.2f})."
                    if could.design_effect > 1
                    else "."
                ),
            )
    ten = ", ".join(class_name(code) for code in report.after.ten_present)
    yield (
        "Averages",
        "Overall counts every question alike, the macro average every disease alike. Informedness of a disease is how much more"
        " often it is picked where it is true than where it is offered and false; a model that merely likes a disease's name gains"
        " accuracy in that disease, and none in informedness."
        + (f" The ten-class average is the paper's: its ten classes, of which these occur here: {ten}." if ten else ""),
    )
    yield (
        "Without looking",
        f"Three rules that never see an image, learned from {report.floors.learned_from}: always the most frequent disease among"
        f" the"
        " options; the disease most often right for photographs of the same source; always the rarest. A tie counts as its"
        " expectation. A blind run asks the model itself about a blank grey image, a shuffled run about the image of a case with"
        " another answer, a source run about the mean image of the photograph's source.",
    )
    yield (
        "Limits",
        "A four-option question is not a clinical task, and these results say nothing about the care of patients."
        f" {DISCLAIMER}",
    )


def record(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A predictions header as names and texts."""
    for name, value in header.items():
        if name != "schema":
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            yield name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else text


def _questions(report: Report) -> str:
    text = "A question shows one photograph and four diseases, of which exactly one is true of it."
    kind = report.header.get("options")
    if kind == "balanced":
        text += (
            " Options are drawn within a source, so that no strategy that ignores the image, or only recognises where it comes"
            " from,"
            " can be right more than 25\u202f% of the time."
        )
    elif kind == "paper":
        text += " Wrong options are drawn uniformly, as published; knowing which diseases are common then helps a lot."
    return text


def _answers(report: Report) -> str:
    after = report.after
    if after.primary.view == "letter":
        text = (
            "The answer is the option whose letter the model finds most probable at the place of its reply. Probabilities are"
            " shown relative to the four letters."
        )
    else:
        text = "The answer is the option that the model's reply clearly names, by its letter or its text."
    if after.rotations > 1:
        text += (
            f" Each option's probability is averaged over {after.rotations} orders, at whatever letter it stood, which takes out"
            " a liking for letters."
        )
    text += " Where options tie, the accuracy counts the expectation, no option is shown as chosen, and McNemar's test takes the"
    text += " question as not right."
    if "text" in {reading.view for reading in after.readings} and after.primary.view != "text":
        text += " Replies in words are read by fixed rules; one that does not clearly name an option is wrong."
    return f"{text} Every question counts; none is skipped and nothing is guessed."
