r"""Make a report again from finished runs, or set any number of runs side by side.

    python -m benchmark.report --after RUN [RUN ...] --before RUN [RUN ...] --cases cases.jsonl --out DIR   # one or two methods
    python -m benchmark.report clip=RUN clip=RUN mgll=RUN mgll=RUN --cases cases.jsonl --out DIR            # any number of methods

RUN is an output directory of run_mcq. `NAME=RUN` names a method; runs of one name are its seeds. Of several methods the others are
set against the first. Beside the page lie Markdown, LaTeX, Excel, the numbers as CSV, every figure as SVG (and PDF, with the extra
`figures`), and a methods paragraph for a supplement.
"""

from collections.abc import Sequence
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser

#: Flags of a report of one method or two, which any number of runs have no use for.
_OF_TWO = ("before", "blind", "shuffled", "source", "border", "paper", "maps")


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 where all went well."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    runs, after = options.pop("runs"), options["after"]
    if bool(runs) == bool(after):
        parser.error("give either runs to set side by side, or --after RUN for the report of one method or two")
    if runs:
        if given := [f"--{name}" for name in _OF_TWO if options.pop(name) is not None]:
            parser.error(f"{', '.join(given)}: goes with --after; runs side by side take --training and --any-prompt")
        if not options.pop("images"):
            parser.error("--no-images: goes with --after; the page of runs side by side holds no images")
        del options["after"]
        # here, because pandas takes a second to import
        from benchmark.report.many_files import named_runs, report_many
        from benchmark.report.many_words import claim, headline

        found = report_many(runs=named_runs(runs), **options)
        print(f"{headline(found)}.\n{claim(found)}")
        print(
            f"wrote {Path(options['out']) / 'runs.html'}, runs.md, .tex, .xlsx, .csv and .parquet, methods.txt and figures/"
        )
        return 0
    # here, because pandas takes a second to import
    from benchmark.report.terminal import print_report
    from benchmark.report.writing import report_runs

    report = report_runs(**options)
    print_report(report)
    print(
        f"wrote {Path(options['out']) / 'report.html'}, report.md, methods.txt, tables.tex and .xlsx, per_class and per_case as"
        " .csv and .parquet, and figures/"
    )
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m benchmark.report", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs to set side by side, each as RUN or NAME=RUN")
    parser.add_argument(
        "--after",
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
    parser.add_argument(
        "--no-images",
        dest="images",
        action="store_false",
        help="a page without the images, where their licence forbids handing them on",
    )
    parser.add_argument("--maps", metavar="FILE", help="page of recipes/tower_maps.py that the report links to")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
