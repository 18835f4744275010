"""What a script of this folder measures: a row of the table that `make speed` prints for each comparison.

A script has a function `rows()` without arguments, which yields them as they are found, at sizes that fit its seconds in
`table.SCRIPTS`, and a `main()` with flags for other sizes, which prints the same rows with `say`:

    def rows(images: int = 32, rounds: int = 3) -> Iterator[Row]:
        ours, theirs = ...                                  # both in one process, taken in turn; medians
        yield at_least("images/s a core, from JPEG", "timm's loader", theirs / ours, 1.2, f"{1 / ours:.0f} images/s")
        yield at_most("a training step", "the encoders alone, its limit", ours / encoders, 1.05)
        yield shown("a training step", "the naive form", naive / ours)

    if __name__ == "__main__":
        say(rows())

Figures are ratios, in which the machine cancels out: of processor time (`time.process_time`) where work on one core is compared,
since other work on the machine hardly changes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sections import number


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        work: what was done.
        against: the named rival, or the limit, that it is measured against.
        measured: what came out, a ratio unless `unit` says otherwise.
        goal: what it has to reach; empty where it is only shown.
        met: whether it does; None where it is only shown, or could not be measured.
        note: a few words more, e.g. the seconds behind a ratio, or why it could not be measured.
        unit: of `measured`.
        command: what measures this row alone, where it isn't the script without flags.
        others: cores that other processes kept busy meanwhile; filled in where the rows are gathered.
    """

    work: str
    against: str
    measured: float | None
    goal: str = ""
    met: bool | None = None
    note: str = ""
    unit: str = "x"
    command: str = ""
    others: float | None = None

    def __str__(self) -> str:
        """One line: work, rival, what was measured, and whether that is enough."""
        said = {True: f" (goal {self.goal}: met)", False: f" (goal {self.goal}: NOT met)", None: ""}[self.met]
        return f"{self.work} / {self.against}: {self.found}{said}"

    @property
    def found(self) -> str:
        """What was measured, with its unit and note."""
        value = "not measured" if self.measured is None else number(self.measured, self.unit)
        return "; ".join(filter(None, (value, self.note)))


def at_least(
    work: str, against: str, measured: float, goal: float, note: str = "", unit: str = "x", command: str = ""
) -> Row:
    """A figure that has to reach its goal; NaN does not."""
    return Row(work, against, measured, f"at least {number(goal, unit)}", measured >= goal, note, unit, command)


def at_most(
    work: str, against: str, measured: float, goal: float, note: str = "", unit: str = "x", command: str = ""
) -> Row:
    """A figure that must not exceed its goal; NaN does not keep it."""
    return Row(work, against, measured, f"at most {number(goal, unit)}", measured <= goal, note, unit, command)


def within(
    work: str, against: str, measured: float, apart: float, note: str = "", unit: str = "x", command: str = ""
) -> Row:
    """A ratio that has to be 1 up to a share; NaN is not."""
    return Row(work, against, measured, f"1 within {apart:.0%}", abs(measured - 1) <= apart, note, unit, command)


def shown(work: str, against: str, measured: float, note: str = "", unit: str = "x", command: str = "") -> Row:
    """A figure without a goal."""
    return Row(work, against, measured, "", None, note, unit, command)


def not_measured(work: str, against: str, why: str, command: str = "") -> Row:
    """A comparison that this machine cannot make, for example since the rival isn't installed."""
    return Row(work, against, None, "", None, why, command=command)


def say(rows: Iterable[Row]) -> None:
    """Print each row as it is found."""
    for row in rows:
        print(row, flush=True)
