"""Check a file of predictions, or join those of the folds of a cross-fitting into one run."""

from benchmark.cases.case import read_cases
from benchmark.predictions.file import read_run
from benchmark.predictions.joining import join_runs
from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m benchmark.predictions", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="check every line")
    validate.add_argument("path", help="predictions.jsonl, or the output directory that holds it")
    join = commands.add_parser("join", help="one run of the runs over all folds (build_benchmark.py --cross-fit)")
    join.add_argument("runs", nargs="+", help="output directories of run_mcq, one for each fold")
    join.add_argument("--cases", required=True, help="test.jsonl beside the folds")
    join.add_argument("--out", required=True, help="folder of the joined run")
    options = parser.parse_args(arguments)
    if options.command == "validate":
        print(_check(options.path))
    else:
        run = join_runs(options.runs, read_cases(options.cases), options.out)
        print(f"{options.out}: {len(run.predictions)} predictions of {len(options.runs)} runs")
    return 0


def _check(path: str) -> str:
    run = read_run(path)
    correct, tied = (sum(getattr(row, what) for row in run.predictions) for what in ("correct", "tied"))
    also = f", {tied} tied" if tied else ""
    return f"{path}: {len(run.predictions)} predictions of {run.name}, {correct} correct{also}, valid"


if __name__ == "__main__":
    raise SystemExit(_main())
