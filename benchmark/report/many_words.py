"""Any number of runs side by side in words and tables, which every form shares."""

import math
from collections.abc import Iterator, Mapping

from benchmark.cases.floor import RULE_NAMES
from benchmark.cases.markdown_text import markdown_text
from benchmark.report.first_screen import Mark
from benchmark.report.many import Method, SideBySide
from benchmark.report.markdown import table_lines
from benchmark.report.methods import origins_said, questions_said, software
from benchmark.report.number_format import class_name, interval, middle_cut, p_number, percent, points, points_interval
from benchmark.report.side_tables import RULES, TOTAL_NAMES
from benchmark.report.tables import Cell, Table, accuracy_cell, change_cell
from benchmark.report.wording import DISCLAIMER, SHOWN_INSTEAD
from benchmark.stats.bootstrap import Estimate

ABOUT = (
    "With several seeds, seeds and patients are both random: intervals and p are about the methods, and “Holm” corrects p over the"
    " methods. With one seed the interval takes patients alone as random, is about these weights, and no p is given."
)


def headline(found: SideBySide) -> str:
    """What the highest method scores, in one sentence without a full stop."""
    best = max(found.methods, key=lambda method: method.numbers["overall"].estimate.value)
    value = percent(best.numbers["overall"].estimate.value)
    methods, questions = f"{len(found.methods)} methods", f"{len(found.cases):,} questions"
    return f"Of {methods} {middle_cut(best.name, 40)} answers the largest share of {questions} correctly, {value}"


def claim(found: SideBySide) -> str:
    """How sure that is, and what it is about."""
    first = found.methods[0]
    others = [method for method in found.methods if method.changes]
    one = sum(method.runs == 1 for method in found.methods)
    text = "The highest of several is flattered by chance. The others are set against the first given,"
    text += f" {middle_cut(first.name, 40)}"
    told = [method for method in others if method.p_holm < 0.05]
    if any(not math.isnan(method.p) for method in others):
        text += f": {len(told)} of {len(others)} differ from it (p < 0.05 after Holm’s correction)"
    text += "."
    if one == len(found.methods):
        text += " One seed each: the numbers are those of these weights, and nothing is claimed about the methods."
    elif one:
        text += f" {one} of {len(found.methods)} have one seed; nothing is claimed about these as methods."
    if found.images != "own":
        text += f" The models saw {SHOWN_INSTEAD[found.images]}."
    return text


def marks(found: SideBySide) -> Iterator[Mark]:
    """The lines of the figure: the methods, then the three rules that do not look."""
    for method in found.methods:
        yield Mark(method.name, "after", method.numbers["overall"].estimate)
    for rule, value in found.floors.of(found.questions.overall()).items():
        yield Mark(f"Rule: {RULE_NAMES[rule]}", "rule", Estimate(value, math.nan, math.nan), RULES[rule])


def all_tables(found: SideBySide) -> dict[str, Table]:
    """Name -> table: the methods, each run, and accuracy by class."""
    return {"Methods": _method_table(found), "Each run": _run_table(found), "Accuracy by class": _class_table(found)}


def markdown(found: SideBySide, tables: Mapping[str, Table]) -> str:
    """The page as Markdown."""
    lines = [f"# {markdown_text(headline(found))}", "", markdown_text(claim(found)), "", f"**{DISCLAIMER}**", ""]
    for name, table in tables.items():
        lines += [f"## {name}", "", *table_lines(table), ""]
    lines += ["## How the numbers are made", "", ABOUT, "", "## For a supplement", ""]
    return "\n".join([*lines, *(f"{markdown_text(paragraph)}\n" for paragraph in methods_said(found))])


def methods_said(found: SideBySide) -> Iterator[str]:
    """The paragraphs for a supplement, with the numbers filled in."""
    header = found.methods[0].header
    patients = len(set(found.questions.groups))
    yield questions_said(found.cases, patients, header, found.primary, found.rotations)
    for method in found.methods:
        made = origins_said(method.origins) or "How it was made is not recorded beside its run."
        yield f"{method.name}: {method.runs} {'run (one seed)' if method.runs == 1 else 'runs under different seeds'}. {made}"
    yield f"All intervals are 95\u202f% intervals. {ABOUT}"
    said = []
    for method in found.methods:
        share = method.numbers["overall"].estimate
        text = f"{method.name} answered {percent(share.value)} correctly ({interval(share)})"
        if method.changes:
            change = method.changes["overall"].estimate
            text += f", {points(change.value)} points ({points_interval(change)}) from {found.methods[0].name}"
        said.append(text)
    floors = found.floors.of(found.questions.overall())
    rules = ", ".join(f"{RULE_NAMES[rule]} {percent(value)}" for rule, value in floors.items())
    yield f"{'; '.join(said)}. Without looking: {rules}."
    yield software(header)


def _method_table(found: SideBySide) -> Table:
    """Each method's averages, what it changes from the first, and what the rules that do not look score."""
    names = [number.name for number in found.questions.totals()]
    rows = [_method_row(method, names) for method in found.methods]
    rules = {number.name: found.floors.of(number) for number in found.questions.totals()}
    for rule, name in RULE_NAMES.items():
        scores = (Cell(percent(rules[number][rule])) for number in names)
        rows.append((Cell(f"Rule: {name}"), Cell(""), *scores, Cell(""), Cell(""), Cell("")))
    columns = ("Method", "Seeds", *(TOTAL_NAMES[name] for name in names), "change, overall", "p", "p (Holm)")
    return Table(columns, tuple(rows), frozenset({0}))


def _method_row(method: Method, names: list[str]) -> tuple[Cell, ...]:
    change = method.changes.get("overall")
    return (
        Cell(method.name),
        Cell(str(method.runs)),
        *(accuracy_cell(method.numbers[name].estimate) for name in names),
        change_cell(change.estimate if change else None),
        Cell("" if math.isnan(method.p) else p_number(method.p)),
        Cell("" if math.isnan(method.p_holm) else p_number(method.p_holm)),
    )


def _run_table(found: SideBySide) -> Table:
    """The numbers of every run."""
    names = [number.name for number in found.questions.totals()]
    rows = [
        (Cell(method.name), Cell(f"run {index + 1}"), *(Cell(percent(method.numbers[n].by_run[index])) for n in names))
        for method in found.methods
        for index in range(method.runs)
    ]
    return Table(("Method", "Run", *(TOTAL_NAMES[name] for name in names)), tuple(rows), labels=2)


def _class_table(found: SideBySide) -> Table:
    """Accuracy of every method by class, the most frequent class first."""
    counts = {code: sum(case.code == code for case in found.cases) for code in found.questions.codes}
    rows = [
        (
            Cell(class_name(code, found.table)),
            Cell(f"{n:,}"),
            *(accuracy_cell(method.numbers[f"accuracy of {code}"].estimate) for method in found.methods),
        )
        for code, n in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return Table(("Class", "n", *(method.name for method in found.methods)), tuple(rows))
