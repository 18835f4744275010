"""The GPU check: is a card right, as fast as counted, and never waited for? One table; non-zero exit where a bound fails.

    python tests/gpu/check.py --out runs/gpu.md                     # ten minutes on one card of 80 GB; needs no network
    python tests/gpu/check.py --only objective,hosts
    python tests/gpu/check.py --tiny --device cpu                   # a dry run of the code on tiny shapes

Every section runs in a process of its own with a budget of seconds: one that fails or runs over is a failed row, what it had found
by then stays, and the others go on.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

# the code beside this file is what is checked, and the tests' builders of tiny models are what it is checked with
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.extend(
    str(Path(__file__).resolve().parents[1] / folder) for folder in ("", "mgll", "mllm_adapters", "benchmark", "speed")
)

from findings import Finding, table
from sections import checked_out, chosen, hand_over, keep, run_apart

from mgll.ending import ends_in_one_line
from mgll.formats import FormatError

#: Sections in the order in which they run: file, whose function `measure` yields findings, and budget in seconds.
SECTIONS = {
    "machine": ("machine", 30),
    "objective": ("objective_equality", 40),
    "hosts": ("host_equality", 110),
    "pretraining": ("pretraining_speed", 110),
    "no-waiting": ("no_waiting", 50),
    "kill": ("killed_run", 60),
    "7B": ("large_llava", 200),
}
#: Torch then asks the driver whether there is a card; once it has asked the CUDA runtime, no fork of the process can use one.
ASK_THE_DRIVER = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


@ends_in_one_line
def main(words: Sequence[str] | None = None) -> int:
    """Run the sections that were asked for; 1 where a bound failed, 0 else."""
    options = _options(words)
    if options.section:
        return _run_here(options)
    names, findings = chosen("--only", options.only, SECTIONS), list[Finding]()
    if options.device == "cuda":
        _refuse_without_gpu()
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        own = list(_run_apart(name, options))
        findings += own
        wrong = sum(row.passed is False for row in own)
        print(f"{name}: {len(own)} rows, {wrong} failed, {time.monotonic() - started:.0f} s", file=sys.stderr)
        if options.out:
            keep(options.out, table(findings), {"findings": [asdict(row) for row in findings]})
    print(table(findings))
    return int(any(row.passed is False for row in findings))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="names of sections, with commas between them")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: what is checked is the check")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --tiny")
    parser.add_argument("--out", type=Path, help="file that keeps the table: FILE.md or FILE.json")
    parser.add_argument("--images", type=Path, help="manifest of photographs to decode; without one, eyes are drawn")
    parser.add_argument("--scratch", type=Path, help="folder for some 20 GB that are removed afterwards")
    parser.add_argument("--budget", type=float, default=1.0, help="factor by which every section's budget is stretched")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)  # the command calls itself with these
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.device == "cpu" and not options.tiny:
        raise ValueError("a CPU is too slow for the real shapes: give --tiny with --device cpu")
    checked_out(options.out)
    if options.images and not options.images.is_file():
        raise FormatError(options.images, None, "no such manifest")
    if options.scratch and not options.scratch.is_dir():
        raise ValueError(f"--scratch {options.scratch}: no such folder")
    if not options.budget > 0:
        raise ValueError(f"--budget {options.budget}: give a factor above 0")
    return options


def _refuse_without_gpu() -> None:
    import torch  # takes seconds, and the command may be wrong

    if not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; --tiny --device cpu is a dry run of the code")


def _run_apart(name: str, options: argparse.Namespace) -> Iterator[Finding]:
    """Run a section in a process of its own; what it found before its end counts."""
    budget = SECTIONS[name][1] * options.budget
    command = [Path(__file__).resolve(), "--section", name, "--device", options.device]
    command += ["--tiny"] if options.tiny else []
    command += ["--images", options.images.resolve()] if options.images else []
    environment = {**os.environ, **ASK_THE_DRIVER, "TQDM_DISABLE": "1"}
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    ended = run_apart(command, budget, environment, scratch=options.scratch)
    yield from (Finding(**row) for row in ended.found)
    if ended.wrong:
        yield Finding("the whole section", ended.wrong, f"{budget:.0f} s", False, name)


def _run_here(options: argparse.Namespace) -> int:
    """Run one section in this process, and append each finding to `--rows` as soon as it is there."""
    import torch
    from bench import Bench

    if options.device == "cuda" and torch.cuda._is_in_bad_fork():  # a library has asked the runtime: begin afresh
        os.execv(sys.executable, [sys.executable, *sys.argv])
    folder = options.rows.parent / "work"
    folder.mkdir()
    bench = Bench(torch.device(options.device), options.tiny, folder, options.images)
    torch.manual_seed(0)
    found = import_module(SECTIONS[options.section][0]).measure(bench)
    hand_over(options.rows, (replace(row, section=options.section) for row in found))
    return 0


if __name__ == "__main__":
    # for the processes that it starts, among them the server that imports the libraries before it knows any path
    os.environ |= ASK_THE_DRIVER
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a section is not left behind on the card
    sys.exit(main())
