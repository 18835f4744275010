"""A report in words: the sentences that every form of it shares."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmark.predictions.answers import Reading
from benchmark.report.content import Report
from benchmark.report.number_format import disease_name, interval, p_value, percent, points, points_interval
from benchmark.report.side_tables import CONTROL_NAMES

DISCLAIMER = "Research use only, not for diagnosis."


def headline(report: Report) -> str:
    """The finding in one line."""
    if report.change is None:
        return f"{report.after.name}: {percent(report.after.overall.accuracy)} of the questions answered correctly"
    if not report.change.settled:
        return "These questions can't tell before and after apart"
    gain = report.change.overall.value
    return (
        f"After gets {100 * abs(gain):.1f} percentage points {'more' if gain > 0 else 'fewer'} of the questions right"
    )


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
            f" Without looking at the image, class frequency alone gives {percent(report.floor.overall)}.",
        )
    return (
        f"Of {n}, {before.name} (before) answers {percent(before.overall.accuracy)} correctly and {after.name} (after)"
        f" {percent(after.overall.accuracy)}: after is ",
        f"{points(report.change.overall.value)} points",
        f" (95\u202f% interval {points_interval(report.change.overall)}), {p_value(report.change.mcnemar.p)}"
        " in the exact McNemar test. Counting every disease alike, the change is"
        f" {points(report.change.macro.value)} points ({points_interval(report.change.macro)}).",
    )


def verdict(report: Report) -> str:
    """What the difference does and does not say; empty for one run."""
    change = report.change
    if change is None:
        return ""
    excludes_zero = change.overall.low > 0 or change.overall.high < 0
    if change.settled:
        text = "The interval leaves out zero and both tests agree: chance alone would rarely give such a difference."
    elif excludes_zero or max(change.mcnemar.p, change.sign_flip_p) < 0.05:
        text = "Interval and tests do not all agree: take the difference as open until more questions are asked."
    else:
        text = "Zero lies within the interval: with this many questions the two can't be told apart."
    return f"{text} {could_have_shown(report)}"


def could_have_shown(report: Report) -> str:
    """How small a difference these questions could show; empty for one run."""
    if report.change is None:
        return ""
    could = report.change.detectable
    if could.difference != could.difference:
        return f"{could.n:,} questions are too few to show any difference reliably."
    return (
        f"The smallest difference that these {could.n:,} questions could be expected to show (four times out of five) is"
        f" {100 * could.difference:.1f} points."
    )


def looking(report: Report) -> str:
    """Whether the answers depend on the image, as far as floor and control runs tell."""
    after, floor = report.after, report.floor.overall
    text = f"Always picking the option whose disease is most frequent scores {percent(floor)}, without looking."
    if report.header["images"] != "own":
        shown = "blank images only" if report.header["images"] == "blank" else "the images of other cases"
        return f"{text} {after.name} saw {shown}: whatever it scores, the words alone gave it away."
    for role, control in report.controls.items():
        text += (
            f" {CONTROL_NAMES[role]} instead: {percent(control.run.overall.accuracy)} ({interval(control.run.overall)});"
            f" the cases’ own images gain {points(control.gain.overall.value)} points"
            f" ({points_interval(control.gain.overall)})."
        )
    text += f" With the images {after.name} scores {percent(after.overall.accuracy)} ({interval(after.overall)})"
    above_floor = after.overall.low > floor
    if not report.controls:
        text += (
            ": more than class frequency alone." if above_floor else ": these results do not show that it uses them."
        )
        return f"{text} A run on blank images (--blind) was not given."
    if any(control.gain.overall.low <= 0 for control in report.controls.values()):
        return f"{text}: these results do not show that it uses them."
    return f"{text}: it uses them" + ("." if above_floor else ", though class frequency alone would do as well.")


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
        "An accuracy has its Wilson 95\u202f% interval. Averages and differences have a 95\u202f% bootstrap interval that draws"
        f" whole patients or eyes ({report.after.groups:,} here), because images of one patient are alike.",
    )
    if report.change:
        test, could = report.change.mcnemar, report.change.detectable
        yield (
            "Test of the difference",
            f"{test.only_after} questions were fixed and {test.only_before} broken; McNemar's exact test asks how often a fair"
            f" coin would split them so unevenly: {p_value(test.p)}. The same question asked of whole patients (sign-flip"
            f" permutation test): {p_value(report.change.sign_flip_p)}. Within a disease McNemar's p is corrected for the"
            f" {len(report.change.class_p)} diseases tested (Holm); where several questions share a patient it is too small.",
        )
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
    ten = ", ".join(disease_name(code) for code in report.after.ten_present)
    yield (
        "Averages",
        "Overall counts every question alike, the macro average every disease alike."
        + (f" The ten-class average is the paper's: its ten classes, of which these occur here: {ten}." if ten else ""),
    )
    yield (
        "Without looking",
        f"The floor always picks the option whose disease is most frequent (frequencies of {report.floor.frequencies_of});"
        " a tie counts as its expectation. A blind run asks the model itself about a blank grey image, a shuffled run about"
        " the image of a case with another answer.",
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
        text += " Options are drawn so that no strategy that ignores the image can be right more than 25\u202f% of the time."
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
