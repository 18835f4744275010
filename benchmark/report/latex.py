"""Tables for LaTeX with booktabs, and text from outside in which nothing is a command."""

from collections.abc import Mapping

from benchmark.report.tables import Table

#: What stands for a letter that LaTeX reads as its own, or does not know.
_WRITTEN = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u202f": r"\,",
    "\u00a0": "~",
    "\n": " ",
    "\r": " ",
}
_WRITTEN |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
_WRITTEN |= {"–": "--", "−": "$-$", "<": "$<$", ">": "$>$", "κ": r"$\kappa$", "…": r"\dots{}", "’": "'"}


def escaped(text: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return "".join(_WRITTEN.get(letter, letter) for letter in text)


def latex(table: Table, caption: str) -> str:
    """A table as LaTeX with booktabs: intervals in small type, a rule above the first of the lines that stand out."""
    labels = table.labels
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * labels}{'r' * (len(table.columns) - labels)}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, table.columns)) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        if number and number in table.strong and number - 1 not in table.strong:
            lines.append(r"\midrule")
        small = (rf" {{\scriptsize ({escaped(cell.detail)})}}" if cell.detail else "" for cell in row)
        lines.append(" & ".join(escaped(cell.text) + detail for cell, detail in zip(row, small, strict=True)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def latex_of(tables: Mapping[str, Table]) -> str:
    """Several tables in one file, each with its name as caption; the first line says what the file needs."""
    start = "% Needs \\usepackage{booktabs}. Research use only, not for diagnosis.\n"
    return "\n".join([start, *(latex(table, name) for name, table in tables.items())])
