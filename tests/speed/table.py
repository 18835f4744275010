"""How fast is it, against named rivals and against what cannot be beaten? One table of ratios.

    python tests/speed/table.py --out runs/speed.md           # what `make speed` runs: within 15 minutes on two idle cores
    python tests/speed/table.py --only report,training_step
    python tests/speed/table.py my_script.py                  # any file with a function `rows` (see rows.py)

Every script runs in a process of its own with a budget of seconds: one that fails or runs over is a row that says so, what it had
found by then stays, and the others go on. Each row says how many cores other processes kept busy while it was measured.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

# the code beside this file is what is measured, and the tests' builders of tiny models are what it is measured with
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.extend(str(Path(__file__).resolve().parents[1] / folder) for folder in ("", "speed", "mllm_adapters"))

from launches import FRESH
from other_work import IDLE, OtherWork, others_now, processor
from rows import Row
from sections import checked_out, chosen, hand_over, keep, markdown, run_apart

from mgll.ending import ends_in_one_line
from mgll.formats import FormatError

HERE = Path(__file__).resolve().parent
#: Scripts in the order in which they run, with their budgets in seconds: together at most 15 minutes.
SCRIPTS = {
    "report": 60,
    "tower_evaluation": 60,
    "manifest": 65,
    "training_step": 90,
    "text_encoding": 30,
    "loss_memory": 70,
    "letter_scoring": 75,
    "letter_scoring_by_host": 60,
    "feature_cache": 40,
    "grafting": 90,
    "loading": 60,
    "fine_tuning_loader": 30,
    "scoring_from_photographs": 90,
    "letter_scoring_limit": 75,
}


@ends_in_one_line
def main(words: Sequence[str] | None = None) -> int:
    """Run the scripts that were asked for; 1 where one failed or ran over, 0 else, whatever was measured."""
    options = _options(words)
    if options.section:
        return _run_here(options.section, options.rows)
    scripts = dict.fromkeys(options.scripts, options.seconds)
    if not scripts:
        scripts = {HERE / f"{name}.py": SCRIPTS[name] for name in chosen("--only", options.only, SCRIPTS)}
    before, rows, failed = others_now(), list[Row](), 0
    for path, budget in scripts.items():
        print(f"{path.stem} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        own = list(_run_apart(path, budget * options.budget))
        rows += own
        failed += own[-1].met is False and own[-1].measured is None
        print(f"{path.stem}: {len(own)} rows, {time.monotonic() - started:.0f} s", file=sys.stderr)
        if options.out:
            keep(options.out, table(rows, before), content(rows, before))
    print(table(rows, before))
    return int(failed > 0)


def table(rows: Sequence[Row], before: float) -> str:
    """The rows as a Markdown table, under a line about the machine and whether it was idle."""
    said = {True: "met", False: "**not met**", None: ""}
    head = ("work", "against", "goal", "measured", "", "others, cores", "command")
    cells = [
        (row.work, row.against, row.goal, row.found, said[row.met], _cores(row.others), f"`{row.command}`")
        for row in rows
    ]
    return f"{machine(rows, before)}\n\n{markdown(head, cells)}"


def machine(rows: Iterable[Row], before: float) -> str:
    """The processor, and how busy other processes kept it before and meanwhile."""
    during = [row.others for row in rows if row.others is not None]
    most, cores = max([before, *during]), os.cpu_count() or 1
    idle = "an idle machine" if most <= IDLE * cores else "**not an idle machine**"
    meanwhile = f", {min(during):.1f} to {max(during):.1f} meanwhile" if during else ""
    return f"{processor()}. Other processes kept {before:.1f} cores busy before{meanwhile}: {idle}."


def content(rows: Iterable[Row], before: float) -> dict[str, object]:
    """The same for a JSON file."""
    return {"processor": processor(), "others_before": before, "rows": [asdict(row) for row in rows]}


def _cores(others: float | None) -> str:
    return "" if others is None else f"{others:.1f}"


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scripts", nargs="*", type=Path, help="files with a function `rows`, instead of those of SCRIPTS"
    )
    parser.add_argument("--only", default=",".join(SCRIPTS), help="names of scripts, with commas between them")
    parser.add_argument("--out", type=Path, help="file that keeps the table: FILE.md or FILE.json")
    parser.add_argument("--budget", type=float, default=1.0, help="factor by which every script's budget is stretched")
    parser.add_argument("--seconds", type=float, default=60, help="budget of a script that was named as a file")
    parser.add_argument("--section", type=Path, help=argparse.SUPPRESS)  # the command calls itself with these
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    checked_out(options.out)
    for path in options.scripts:
        if not path.is_file():
            raise FormatError(path, None, "no such script")
    for flag in ("budget", "seconds"):
        if not getattr(options, flag) > 0:
            raise ValueError(f"--{flag} {getattr(options, flag)}: give a number above 0")
    return options


def _run_apart(path: Path, budget: float) -> Iterator[Row]:
    """Run a script in a fresh process; what it found before its end counts."""
    command = [Path(__file__).resolve(), "--section", path.resolve()]
    ended = run_apart(command, budget, {**os.environ, "TQDM_DISABLE": "1"}, FRESH)
    shown = path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path
    rows = [Row(**row) for row in ended.found]
    if ended.wrong:
        rows.append(Row(path.stem, "its budget", None, f"at most {budget:.0f} s", False, ended.wrong))
    elif not rows:
        rows.append(Row(path.stem, "its budget", None, f"at most {budget:.0f} s", False, "ended without a row"))
    yield from (replace(row, command=row.command or f"python {shown}") for row in rows)


def _run_here(script: Path, out: Path) -> int:
    """Run one script in this process, and hand over each row as soon as it is there."""
    sys.path.insert(0, str(script.parent))
    counted = OtherWork()
    found: Iterable[Row] = import_module(script.stem).rows()
    hand_over(out, (replace(row, others=counted.cores()) for row in found))
    return 0


if __name__ == "__main__":
    # for the processes that it starts, before they know any path
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no script is left behind
    sys.exit(main())
