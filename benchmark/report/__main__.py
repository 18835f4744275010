"""Make a report again from finished runs."""

from collections.abc import Sequence
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 where all went well."""
    parser = CommandParser(prog="python -m benchmark.report", description=__doc__)
    parser.add_argument(
        "--after",
        required=True,
        nargs="+",
        metavar="RUN",
        help="output directory of run_mcq to report on; several are one method under several seeds",
    )
    parser.add_argument(
        "--before", nargs="+", metavar="RUN", help="run over the same cases to compare with, or several"
    )
    parser.add_argument("--blind", metavar="RUN", help="run of the same model with --blind")
    parser.add_argument("--shuffled", metavar="RUN", help="run of the same model with --shuffled")
    parser.add_argument("--source", metavar="RUN", help="run of the same model with --blind source")
    parser.add_argument("--border", metavar="RUN", help="run of the same model with --blind border")
    parser.add_argument("--training", metavar="FILE", help="training questions that the floors learn from")
    parser.add_argument(
        "--paper", metavar="HOST", help="published figures to set beside (default: those of the run's host)"
    )
    parser.add_argument("--cases", required=True, metavar="FILE", help="the cases that were answered")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the page and the tables go")
    parser.add_argument("--any-prompt", action="store_true", help="compare hosts with different prompt templates")
    options = vars(parser.parse_args(arguments))
    # here, because pandas takes a second to import
    from benchmark.report.terminal import print_report
    from benchmark.report.writing import report_runs

    report = report_runs(**options)
    print_report(report)
    print(f"wrote {Path(options['out']) / 'report.html'}, report.md, and per_class and per_case as .csv and .parquet")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
