"""Ask a model four-option questions about images, and report how good it is, or how much better than another.

    python benchmark/run_mcq.py --model DIR --cases cases.jsonl --out DIR [--against OTHER_OUT] [--rotations 4] [--blind]
    accelerate launch benchmark/run_mcq.py ...    # the same over several devices or nodes

Answers are scored by the probability of the option letters. The output directory gets predictions.jsonl (one line a case and
rotation, from which the rest can be made again), report.html, report.md, per_class and per_case as .csv and .parquet, and run.json.
A run that was killed goes on where it was.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.cases.case import SCHEMA, Case, read_cases
from benchmark.cases.demo import demo_cases
from benchmark.cases.images import Shown
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, check_complete, questions_sha256, read_run
from benchmark.predictions.scoring import Processes, score_cases
from benchmark.scorers.by_name import check_model, load_scorer
from benchmark.scorers.scorer import VIEWS, Scorer
from mgll.ending import ends_in_one_line
from mgll.files import sha256, write_text
from mgll.flags import CommandParser
from mgll.formats import read_header
from mgll.provenance import provenance
from mllm_adapters.loading.device_map import refuse_several
from mllm_adapters.loading.options import add_weight_options
from mllm_adapters.settings import Dtype, Quantisation

if TYPE_CHECKING:
    from benchmark.report.content import Report

DEMO = "demo"
RUNS = Path("runs") / "mcq"

EXPLANATION = """\
run_mcq asks a model four-option questions about fundus images and reports its accuracy with intervals: by disease, overall,
as macro average, and beside what can be scored without looking. With a second run it reports the difference.
Research use only, not for diagnosis.

Try it now, without a model or data (draws 160 synthetic eyes, then answers A to everything):

    python benchmark/run_mcq.py --model constant:A --cases demo

Your own model and cases, then the graft compared with the host:

    python -m benchmark.cases build --manifest manifest.jsonl --out cases.jsonl
    python benchmark/run_mcq.py --model HOST  --cases cases.jsonl --out runs/host
    python benchmark/run_mcq.py --model GRAFT --cases cases.jsonl --out runs/graft --against runs/host

--help lists every option. `make demo` makes such a host and graft and compares them."""


def run(
    model: str,
    cases: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | None = None,
    asking: Asking | None = None,
    blind_run: str | os.PathLike[str] | None = None,
    shuffled_run: str | os.PathLike[str] | None = None,
    source_run: str | os.PathLike[str] | None = None,
    border_run: str | os.PathLike[str] | None = None,
    training: str | os.PathLike[str] | None = None,
    paper: str | None = None,
    device: str | None = None,
    name: str | None = None,
    any_prompt: bool = False,
    processes: Processes | None = None,
    endpoint: str | None = None,
    dtype: Dtype = "auto",
    quantize: Quantisation = "no",
    device_map: Literal["auto"] | None = None,
) -> "Report | None":
    """Score a model and write its report; returns it, or None in all processes but the first.

    Args:
        model: directory that `mllm_adapters.load` reads, or a dummy such as `constant:A`.
        cases: file of cases, or `demo` for cases about drawn eyes.
        out: output directory; default `runs/mcq/` and the model's name.
        against: output directory of a finished run over the same cases: "before"; this run is "after".
        asking: rotations, views, images shown, batch size, workers.
        blind_run: output directory of a finished run of this model on blank images, for the report.
        shuffled_run: the same on the images of other cases.
        source_run: the same on the mean image of each case's source.
        border_run: the same on the size and border of each case's image.
        training: questions that the model was tuned on, which the report's floors learn from; default the cases' own answers.
        paper: host whose published figures stand in the report; default the model's own where there are any.
        device: torch device; default a GPU where there is one.
        name: what reports call the model; default the directory's name.
        any_prompt: compare hosts even if they wrap the question in different templates.
        processes: this process among those that share the work.
        endpoint: address of the server that an `openai:` model is behind.
        dtype: precision of the weights of a directory.
        quantize: whether its language model is held in 4 or 8 bits.
        device_map: whether it is spread over all cards.

    Raises:
        FormatError: if a file is not what it should be.
        ComparisonError: if the runs are not over the same cases and questions.
        ImageError: naming the case whose image is missing, damaged or another one.
        ValueError: if the model cannot be asked like this.
    """
    check_model(model)
    # here, because torch takes seconds to import
    from benchmark.report.content import build_report, check_published
    from benchmark.report.writing import with_origins, write_report

    asking, processes = asking or Asking(), processes or Processes()
    cases = _demo(processes) if str(cases) == DEMO else cases
    asked = read_cases(cases)
    given = {
        "against": against,
        "blind_run": blind_run,
        "shuffled_run": shuffled_run,
        "source_run": source_run,
        "border_run": border_run,
    }
    others = _finished_runs(given, asked)
    learned = read_cases(training) if training else None
    check_published(paper)  # before hours of scoring, not after
    if device_map:
        refuse_several(processes.count)
    scorer = load_scorer(model, device, name, endpoint, dtype=dtype, quantize=quantize, device_map=device_map)
    if not processes.index and (note := getattr(scorer, "note", "")):
        print(f"{scorer.name}: {note}", file=sys.stderr)
    out = Path(out or default_out(scorer.name, asking.images))
    header = describing_header(cases, scorer)
    result = score_cases(asked, scorer, out, asking, header, processes)
    if processes.index:
        return None
    how = {"paper": paper, "any_prompt": any_prompt, "endpoint": endpoint, "processes": processes.count}
    settings = {"model": model, "cases": cases, "out": out, "training": training} | given | asdict(asking) | how
    _write_record(out, settings, scorer, sha256(cases), others, header["versions"])
    before, blind, shuffled, source, border = map(others.get, given)
    report = build_report(
        asked,
        result,
        before,
        blind,
        any_prompt,
        shuffled=shuffled,
        paper=paper,
        training=learned,
        source=source,
        border=border,
    )
    report = with_origins(report, [out], [against] if against else [])
    write_report(out, report)
    return report


def _demo(processes: Processes) -> Path:
    """The demo's cases, drawn by the first process."""
    if processes.index == 0:
        demo_cases(RUNS / "demo_cases")
    processes.wait()
    return demo_cases(RUNS / "demo_cases")


def _finished_runs(given: Mapping[str, str | os.PathLike[str] | None], asked: Sequence[Case]) -> dict[str, Run]:
    """The finished runs to set beside, by their role."""
    runs = {role: read_run(path) for role, path in given.items() if path}
    hashes = {"cases_sha256": cases_sha256(asked), "questions_sha256": questions_sha256(asked)}
    for run in runs.values():
        if not hashes.items() <= run.header.items():
            raise ComparisonError(f"{run.name!r} answered other cases or questions than those to be asked")
        check_complete(run, asked)
    return runs


def describing_header(cases: str | os.PathLike[str], scorer: Scorer) -> dict[str, Any]:
    """Entries of the predictions' header that describe a run: how options were drawn, versions, the host, its precision."""
    header = {"options": read_header(cases, SCHEMA).get("options", "not stated"), "versions": provenance()}
    own = {name: getattr(scorer, name, None) for name in ("host", "dtype")}
    return header | {name: value for name, value in own.items() if value}


def _write_record(
    out: Path,
    settings: Mapping[str, Any],
    scorer: Scorer,
    cases_hash: str,
    others: Mapping[str, Run],
    versions: Mapping[str, Any],
) -> None:
    """Write run.json: resolved settings, hashes of all inputs, versions."""
    settings = {**settings, "name": scorer.name, "device": getattr(scorer, "device", "none")}
    settings |= {"dtype": getattr(scorer, "dtype", "none")}
    inputs = {"model": scorer.fingerprint, "cases": cases_hash}
    inputs |= {role: run.header["model_sha256"] for role, run in others.items()}
    record = {"settings": settings, "inputs_sha256": inputs, "provenance": versions}
    write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")


def launched_processes() -> Processes:
    """This process among those that `accelerate launch` (or torchrun) started; alone where none did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    # Processes meet a few times in hours: a default of minutes would take a slow batch for a dead process.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


def end(processes: Processes) -> None:
    """Destroy the process group; torch warns at exit if it is left open."""
    if processes.count > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def default_out(model: str, images: Shown = "own") -> Path:
    """The output directory of a model without `--out`: `runs/mcq/` and its name."""
    return RUNS / (
        re.sub(r"[^\w.-]+", "-", model) + ("" if images == "own" else f"-{images}").replace("blank", "blind")
    )


def _parser() -> CommandParser:
    parser = CommandParser(description=__doc__, prog="run_mcq.py")
    add = parser.add_argument
    add(
        "--model",
        metavar="DIR",
        help="host, graft or LoRA directory; lmms-eval:MODEL:key=value,...; openai:MODEL; constant:A to D; or a plug-in",
    )
    add(
        "--endpoint",
        metavar="URL",
        help="server of an openai:MODEL, e.g. http://127.0.0.1:8000/v1; images are sent there",
    )
    add("--cases", metavar="FILE", help="cases to ask; `demo` for questions about drawn eyes")
    add("--out", metavar="DIR", help=f"output directory (default: {RUNS}/ and the model's name)")
    add("--against", metavar="OUT", help="output directory of the run before; the report then shows the difference")
    add(
        "--rotations",
        type=int,
        choices=[1, 4, 24],
        default=1,
        help="orders of the options: as stored, every option at every letter once, or all (default %(default)s)",
    )
    add(
        "--views",
        nargs="+",
        choices=VIEWS,
        default=["letter"],
        help="ways to read the answer: probability of the letter, words of the reply, likelihood of the option's name",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--blind",
        dest="images",
        nargs="?",
        choices=["blank", "source", "border"],
        const="blank",
        default="own",
        help="hide the finding: a blank image (default), the mean image of the case's source, or its size and border only",
    )
    shown.add_argument(
        "--shuffled",
        dest="images",
        action="store_const",
        const="shuffled",
        help="show each case the image of another one with another answer",
    )
    add("--blind-run", metavar="OUT", help="finished --blind run of the same model, shown in the report")
    add("--shuffled-run", metavar="OUT", help="finished --shuffled run of the same model, shown in the report")
    add("--source-run", metavar="OUT", help="finished `--blind source` run of the same model, shown in the report")
    add("--border-run", metavar="OUT", help="finished `--blind border` run of the same model, shown in the report")
    add(
        "--training", metavar="FILE", help="training questions that the report's floors learn from (default: the cases)"
    )
    add("--paper", metavar="HOST", help="published figures to set beside (default: those of the model's host, if any)")
    add("--batch-size", type=int, default=8, metavar="N", help="cases at a time (default %(default)s)")
    add(
        "--workers",
        type=int,
        default=Asking.workers,
        metavar="N",
        help="threads that decode the next images while the model is at work; 0: none (default %(default)s)",
    )
    add("--device", help="torch device (default: a GPU where there is one, Apple's too)")
    add_weight_options(parser)
    add("--name", help="what reports call the model (default: the directory's name)")
    add("--any-prompt", action="store_true", help="compare hosts although their prompt templates differ")
    return parser


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 where all went well."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(EXPLANATION)
        return 0
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    missing = [f"--{name}" for name in ("model", "cases") if not options[name]]
    if missing:
        parser.error(f"{' and '.join(missing)} must be given; without any argument the script explains itself")
    if options["batch_size"] < 1:
        parser.error(f"--batch-size is {options['batch_size']}; it must be at least 1")
    if options["workers"] < 0:
        parser.error(f"--workers is {options['workers']}; it must be at least 0")
    from benchmark.report.terminal import print_report

    processes = launched_processes()
    asking = Asking(**{field.name: options.pop(field.name) for field in fields(Asking)})
    asking = replace(asking, views=tuple(asking.views))
    try:
        report = run(**options, asking=asking, processes=processes)
    finally:
        end(processes)
    if report is None:
        return 0
    print_report(report)
    out = Path(options["out"] or default_out(str(report.header["model"]), asking.images))
    print(f"\nThe whole report, with questions and images: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
