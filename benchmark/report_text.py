"""A report in words: the sentences that every form of it shares, Markdown, and the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.prompts import LETTERS
from benchmark.report import Report
from benchmark.report_tables import (
    Line,
    cells,
    class_lines,
    columns,
    disease_name,
    histogram,
    interval,
    narrow_cells,
    narrow_columns,
    p_value,
    percent,
    points,
    points_interval,
    source_lines,
    total_lines,
)

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
            f"{after.name} answers {after.overall.correct:,} of {n} correctly: ",
            f"{percent(after.overall.accuracy)} (95\u202f% interval {interval(after.overall)})",
            f". Without looking at the image, class frequency alone gives {percent(report.floor.overall)}.",
        )
    return (
        f"Of {n}, {before.name} (before) answers {percent(before.overall.accuracy)} correctly and {after.name} (after)"
        f" {percent(after.overall.accuracy)}: after is ",
        f"{points(report.change.overall.value)} points",
        f" (95\u202f% interval {points_interval(report.change.overall)}), {p_value(report.change.mcnemar.p)}"
        " in the exact McNemar test.",
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
    macro = f"Counting every disease alike, the change is {points(change.macro.value)} points"
    return f"{text} {macro} ({points_interval(change.macro)})."


def looking(report: Report) -> str:
    """Whether the answers depend on the image, as far as floor and blind run tell."""
    after, rivals = report.after, [report.floor.overall]
    text = f"Always picking the option whose disease is most frequent scores {percent(report.floor.overall)}, without looking."
    if report.header["images"] == "blank":
        return f"{text} {after.name} saw blank images only: whatever it scores, the words alone gave it away."
    if report.blind:
        rivals.append(report.blind.overall.accuracy)
        text += (
            f" Shown a blank image instead, the model scores {percent(rivals[-1])} ({interval(report.blind.overall)})."
        )
    text += f" With the images {after.name} scores {percent(after.overall.accuracy)} ({interval(after.overall)})"
    if after.overall.low > max(rivals):
        text += ": more than without them." if report.blind else ": more than class frequency alone."
    else:
        text += ": these results do not show that it uses them."
    return text if report.blind else f"{text} A run on blank images (--blind) was not given."


def method(report: Report) -> Iterator[tuple[str, str]]:
    """How the numbers are made, as terms and explanations."""
    after = report.after
    kind = report.header.get("options")
    question = "A question shows one photograph and four diseases, of which exactly one is true of it."
    if kind == "balanced":
        question += " Options are drawn so that no strategy that ignores the image can be right more than 25\u202f% of the time."
    elif kind == "paper":
        question += (
            " Wrong options are drawn uniformly, as published; knowing which diseases are common then helps a lot."
        )
    yield "Questions", question
    yield (
        "Answers",
        "The answer is the option whose letter the model finds most probable at the place of its reply. Probabilities are"
        " shown relative to the four letters. Every question counts; none is skipped and nothing is guessed.",
    )
    yield (
        "Intervals",
        "An accuracy has its Wilson 95\u202f% interval. Averages and differences have a 95\u202f% bootstrap interval that draws"
        f" whole patients or eyes ({after.groups:,} here), because images of one patient are alike.",
    )
    if report.change:
        test = report.change.mcnemar
        yield (
            "Test of the difference",
            f"{test.only_after} questions were fixed and {test.only_before} broken; McNemar's exact test asks how often a fair"
            f" coin would split them so unevenly: {p_value(test.p)}. The same question asked of whole patients (sign-flip"
            f" permutation test): {p_value(report.change.sign_flip_p)}.",
        )
    ten = ", ".join(disease_name(code) for code in after.ten_present)
    yield (
        "Averages",
        "Overall counts every question alike, the macro average every disease alike."
        + (f" The ten-class average is the paper's: its ten classes, of which these occur here: {ten}." if ten else ""),
    )
    yield (
        "Without looking",
        f"The floor always picks the option whose disease is most frequent (frequencies of {report.floor.frequencies_of});"
        " a tie counts as its expectation. A blind run asks the model itself about a blank grey image.",
    )
    yield (
        "Limits",
        "A four-option question is not a clinical task, and these results say nothing about the care of patients."
        f" {DISCLAIMER}",
    )


def record(header: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A predictions header as names and texts."""
    for name, value in header.items():
        if name != "schema":
            yield (
                name.replace("_", " "),
                ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value),
            )


def markdown(report: Report) -> str:
    """The report as Markdown."""
    start, figure, end = answer(report)
    lines = [f"# {headline(report)}", "", f"{start}**{figure}**{end}", ""]
    lines += [f"{text}\n" for text in (verdict(report), *report.notes, looking(report), f"**{DISCLAIMER}**") if text]
    lines += ["## By disease", "", *_markdown_table(columns(report), [*class_lines(report), *total_lines(report)])]
    if source_lines(report):
        lines += ["", "## By source of the images", ""]
        lines += _markdown_table(columns(report, "source"), source_lines(report))
    lines += ["", "## How often each letter was chosen", "", "| | A | B | C | D |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | " + " | ".join(map(str, counts)) + " |" for name, counts in histogram(report)]
    lines += ["", "## How the numbers are made", "", *(f"- **{term}.** {text}" for term, text in method(report))]
    lines += ["", "## What was run", ""]
    for role, header in report.headers.items():
        lines.append(f"- {role}: " + "; ".join(f"{name} `{value}`" for name, value in record(header)))
    return "\n".join(lines) + "\n"


def print_report(report: Report) -> None:
    """The report on the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    title = "Accuracy in % [95 % interval]" + ("; flips: answers fixed/broken" if report.change else "")
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in narrow_columns(report):
        table.add_column(name, justify="left" if name == "class" else "right", no_wrap=True)
    for lines in (class_lines(report), total_lines(report)):
        for line in lines:
            table.add_row(*map(Text, narrow_cells(line)))
        table.add_section()
    console.print(table)
    letters = Table("letters", *LETTERS, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name, counts in histogram(report):
        letters.add_row(name, *map(str, counts))
    console.print(letters)
    for text in ("".join(answer(report)), verdict(report), *report.notes, looking(report), DISCLAIMER):
        if text:
            console.print(Text(text))


def _markdown_table(names: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    yield "| " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * (len(names) - 1)
    for line in lines:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells(line)) + " |"
