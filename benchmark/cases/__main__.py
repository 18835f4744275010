"""Build or check a file of cases."""

import argparse
import sys

from benchmark.cases.case import check_images, describe, position_test, read_cases
from benchmark.cases.giveaways import giveaway_warning
from benchmark.cases.overlap import RULES, THRESHOLD, OverlapCheck, report_overlaps
from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m benchmark.cases", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="draw cases from a manifest")
    build.add_argument("--manifest", required=True, help="manifest with labels and official splits")
    build.add_argument("--out", required=True, help="file of cases to write")
    build.add_argument(
        "--split", choices=["train", "val", "test", "all"], default="test", help="images that are asked about"
    )
    build.add_argument("--options", choices=["balanced", "paper"], default="balanced", help="how the options are drawn")
    build.add_argument("--count", type=int, help="number of cases (default: one for every image and class of it)")
    build.add_argument("--seed", type=int, default=0, help="seed of the draw (default %(default)s)")
    build.add_argument(
        "--classes", help="present, table14, or codes separated by commas (default: present; table14 for paper options)"
    )
    build.add_argument(
        "--min-images", type=int, help="leave out classes with fewer images (default: 5; 1 for paper options)"
    )
    build.add_argument(
        "--distractors",
        choices=["clean", "paper"],
        default="clean",
        help="clean: none holds or may hold for the image; paper: any other name, as printed (with paper options)",
    )
    build.add_argument(
        "--names",
        choices=["classes", "all"],
        default="classes",
        help="where the distractors of paper options come from: the classes, or every name of the disease table",
    )
    build.add_argument(
        "--equal-shares", action="store_true", help="balanced options in which every class is offered equally often"
    )
    build.add_argument(
        "--any-source",
        action="store_true",
        help="balanced options drawn over all sources at once; recognising a source then pays",
    )
    build.add_argument(
        "--table14",
        action="store_true",
        help="paper options with exactly Table 14's counts (in its proportions with a smaller --count), one case an image",
    )
    build.add_argument("--allow-short", action="store_true", help="build what there is where --table14 lacks images")
    build.add_argument(
        "--pretraining",
        nargs="+",
        default=[],
        metavar="MANIFEST_OR_TOWER",
        help="what else was trained on; the manifest's own split train always counts",
    )
    build.add_argument(
        "--overlap",
        choices=RULES,
        default="refuse",
        help="images of val and test that were trained on: refuse to build, leave them out, or keep and count them",
    )
    build.add_argument(
        "--contradictory",
        choices=["drop", "keep"],
        default="drop",
        help="images whose labels contradict each other (Health beside a disease): leave them out and count them, or keep them",
    )
    validate = commands.add_parser("validate", help="check a file of cases, its images, and what the pretraining saw")
    validate.add_argument("file", help="file of cases")
    validate.add_argument(
        "--pretraining", metavar="MANIFEST_OR_TOWER", help="manifest or tower of a pretraining that must not hold them"
    )
    validate.add_argument(
        "--pretraining-split", choices=["train", "val", "test", "all"], default="train", help="what the pretraining saw"
    )
    validate.add_argument("--pairs", metavar="CSV", help="write every pair found there, with both paths")
    validate.add_argument(
        "--threshold", type=int, help="bits of 256 that may differ in the same photograph (default: 52)"
    )
    options = parser.parse_args(arguments)
    return _validate(options) if options.command == "validate" else _build(options)


def _validate(options: argparse.Namespace) -> int:
    cases = read_cases(options.file)
    errors = check_images(options.file)
    for error in errors[:20]:
        print(error, file=sys.stderr)
    if errors:
        print(f"{options.file}: {len(errors)} of {len(cases)} cases have a wrong image", file=sys.stderr)
        return 1
    print(f"{options.file}: valid\n{describe(cases)}")
    if (chance := position_test(cases)) < 0.01:
        print(f"warning: answers are not spread evenly over A to D (p = {chance:.2g}): a constant letter beats 25 %")
    if options.pretraining:
        split = None if options.pretraining_split == "all" else options.pretraining_split
        threshold = THRESHOLD if options.threshold is None else options.threshold
        return report_overlaps(cases, options.pretraining, split, options.pairs, threshold)
    return 0


def _build(options: argparse.Namespace) -> int:
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases
    from benchmark.cases.floor import describe_floors

    classes = options.classes
    if classes and classes not in ("present", "table14"):
        classes = [code.strip() for code in classes.split(",")]
    cases, drawing = build_cases(
        options.manifest,
        options.out,
        None if options.split == "all" else options.split,
        OverlapCheck(options.pretraining, options.overlap),
        options.contradictory,
        kind=options.options,
        count=options.count,
        classes=classes,
        min_images=options.min_images,
        clean=options.distractors == "clean",
        names=options.names,
        equal=options.equal_shares,
        any_source=options.any_source,
        table14=options.table14,
        allow_short=options.allow_short,
        seed=options.seed,
    )
    print(f"{options.out}: {describe(cases)}\n{drawing.describe()}\n{describe_floors(cases)}")
    if warning := giveaway_warning(cases):
        print(warning)
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
