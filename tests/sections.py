"""A measurement in sections, each in a process of its own with a budget of seconds: one that fails leaves the others alone."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import launches

from mgll.files import write_text
from mgll.provenance import provenance


@dataclass(frozen=True)
class Ended:
    """How a section came to its end.

    Attributes:
        found: the rows that it had handed over by then.
        wrong: why it did not end well: `ran over its time`, or `ended with STATUS: LAST LINE`; None where it did.
    """

    found: tuple[dict[str, Any], ...]
    wrong: str | None


def run_apart(
    command: Sequence[str | Path],
    budget: float,
    env: Mapping[str, str],
    server: BaseContext = launches.SERVER,
    scratch: Path | None = None,
) -> Ended:
    """Run a section in a group of processes of its own, and end them all where its time is over.

    Args:
        command: `SCRIPT ARGUMENT...`; `--rows FILE` is added, to which the section hands its rows.
        budget: seconds that it may take.
        env: its environment.
        server: what starts its process.
        scratch: folder in which its own is made, and removed; a temporary one if not given.
    """
    # what was killed a moment ago may still write there
    with TemporaryDirectory(dir=scratch, prefix="section-", ignore_cleanup_errors=True) as folder:
        rows, log = Path(folder) / "rows.jsonl", Path(folder) / "log"
        rows.touch()
        process = launches.start([*command, "--rows", rows], log, env=env, server=server)
        try:
            process.join(budget)
        finally:
            status = process.exitcode
            if status is None:
                assert process.pid is not None
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
        found = tuple(json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines())
        said = log.read_text(encoding="utf-8", errors="replace").strip()
    if status is None:
        return Ended(found, "ran over its time")
    if status:
        print(said[-6000:], file=sys.stderr)
        return Ended(found, f"ended with {status}: {(said.splitlines() or ['without a word'])[-1][:300]}")
    return Ended(found, None)


def hand_over(rows: Path, found: Iterable[Any]) -> None:
    """Append each row, a dataclass, as soon as it is there; what is killed afterwards has handed it over."""
    with rows.open("a", encoding="utf-8") as file:
        for row in found:
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


def chosen(flag: str, names: str, sections: Iterable[str]) -> list[str]:
    """The sections that were asked for by names with commas between them, in their own order.

    Raises:
        ValueError: for a name that is none, or for no name.
    """
    asked, known = [name.strip() for name in names.split(",") if name.strip()], list(sections)
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise ValueError(f"{flag} {names}: no section {', '.join(unknown) or 'at all'}; there are {', '.join(known)}")
    return [name for name in known if name in asked]


def checked_out(out: Path | None) -> None:
    """Refuse a name for the table that says nothing of its form, before anything is measured.

    Raises:
        ValueError: for another ending than `.md` and `.json`.
    """
    if out and out.suffix not in (".md", ".json"):
        raise ValueError(f"--out {out}: give a file that ends in .md or .json")


def keep(out: Path, table: str, content: Mapping[str, Any]) -> None:
    """Write what was found so far as Markdown or JSON, so that a command that is ended at its limit leaves something."""
    if out.suffix == ".md":
        write_text(out, table + "\n")
    else:
        write_text(out, json.dumps({"provenance": provenance(), **content}, indent=2) + "\n")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; line breaks and bars in a cell do not break it."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in row) + " |")
    return "\n".join(lines)


def number(value: float, unit: str = "") -> str:
    """Three digits, or a whole number from 1,000 on, with the unit."""
    return f"{value:,.3g} {unit}".strip() if abs(value) < 1000 else f"{value:,.0f} {unit}".strip()
