"""The training curve of a tower: what its run logged, thinned so that it travels in the tower file's header.

There it is one text, a line of names and then lines of numbers, under `curve` of the header's `origin`. A tower from before has
none; where its run's `metrics.jsonl` still lies beside it, that is read instead.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgll.formats import FormatError
from mgll.tower.file import read_header

#: As many points tell the shape of a curve, and take some 10 KB.
_POINTS = 200
LOG = "metrics.jsonl"
#: What a line of the log says beside the loss and its terms.
_ASIDE = {"epoch", "learning_rate", "damaged"}


@dataclass(frozen=True)
class Curve:
    """What a run logged.

    Attributes:
        steps: number of each step that is kept, counted from 1.
        terms: `loss`, and each of its terms -> its value in these steps, in this batch alone.
    """

    steps: tuple[int, ...]
    terms: Mapping[str, tuple[float, ...]]


def thinned(log: str | os.PathLike[str], terms: Sequence[str] | None = None) -> str:
    """The text for a header of a run's log: every n-th line and the last; empty if the log is missing or empty.

    Args:
        log: its path.
        terms: keep these numbers alone; default all that are no settings of the step.
    """
    lines = _lines(Path(log))
    every = -(-len(lines) // _POINTS) if lines else 1
    kept = lines[every - 1 :: every]
    kept += lines[-1:] if lines and kept[-1:] != lines[-1:] else []
    known = [name for name in (kept[0] if kept else {}) if name not in _ASIDE and name != "step"]
    names = ["step", *(name for name in known if terms is None or name in terms)]
    rows = [" ".join(f"{line.get(name, float('nan')):.5g}" for name in names) for line in kept]
    return "\n".join([" ".join(names), *rows]) if kept else ""


def curve_of(tower: str | os.PathLike[str]) -> Curve | None:
    """The training curve of a tower file; None if neither its header nor a log beside it has one.

    Raises:
        FormatError: if the file is no tower, or its curve is not of this form.
    """
    said = read_header(tower).origin.get("curve") or thinned(Path(tower).with_name(LOG))
    return curve_in(str(said), tower) if said else None


def curve_in(said: str, where: str | os.PathLike[str]) -> Curve:
    """The curve that `thinned` wrote as a text.

    Args:
        said: the text, a line of names and then lines of numbers.
        where: the file that it was found in, for the message.

    Raises:
        FormatError: if it is not of this form.
    """
    try:
        names, *rows = (line.split() for line in said.splitlines())
        values = [[float(cell) for cell in row] for row in rows]
        columns = dict(zip(names, zip(*values, strict=True), strict=True))
        return Curve(tuple(int(step) for step in columns.pop("step")), columns)
    except (ValueError, KeyError) as error:
        raise FormatError(where, None, f"its training curve is not of a form that is known ({error})") from None


def curve_of_log(log: str | os.PathLike[str], terms: Sequence[str]) -> Curve | None:
    """These terms of a run's log, thinned; None if the log is missing, empty, or has none of them.

    Raises:
        FormatError: if a line is no JSON.
    """
    said = thinned(log, terms)
    found = curve_in(said, log) if said else None
    return found if found and found.terms else None


def _lines(log: Path) -> list[dict[str, float]]:
    if not log.is_file():
        return []
    try:
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise FormatError(log, None, f"not JSON ({error})") from None
