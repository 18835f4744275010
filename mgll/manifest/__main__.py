"""Check a manifest, count what is in it, or merge the groups whose photographs match."""

import argparse

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError, read_header
from mgll.images.files import image_exists
from mgll.images.fundus_hash import THRESHOLD
from mgll.manifest.counts import count, print_counts
from mgll.manifest.records import SCHEMA, read_manifest


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m mgll.manifest", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("validate", help="check every line, and that every image is there")
    commands.add_parser("describe", help="count images, groups, texts and classes as well")
    group = commands.add_parser("group", help="make one group, in one split, of groups that show the same photograph")
    for command in commands.choices.values():
        command.add_argument("path", help="manifest")
    group.add_argument("--out", required=True, help="manifest to write")
    group.add_argument("--pairs", metavar="CSV", help="write every pair of images that joined two groups")
    group.add_argument(
        "--threshold",
        type=int,
        default=THRESHOLD,
        help="bits of 256 that may differ in the same photograph (%(default)s)",
    )
    options = parser.parse_args(arguments)
    print(_group(options) if options.command == "group" else _check(options.command, options.path))
    return 0


def _group(options: argparse.Namespace) -> str:
    from mgll.manifest.grouping import group_manifest  # here, because the others need no image

    grouping = group_manifest(options.path, options.out, options.pairs, options.threshold)
    note = "look at the pairs" if options.pairs else "--pairs FILE.csv lists the pairs to look at"
    return f"{options.out}: {len(grouping.records)} images\n{grouping.describe()}" + (
        f"\n{note}" if grouping.matches else ""
    )


def _check(verb: str, path: str) -> str:
    records = read_manifest(path)
    missing = [record.image for record in records if not image_exists(record.image)]
    if verb == "describe":
        from rich.console import Console  # takes a tenth of a second

        print_counts(count(records), Console())
        if scaling := read_header(path, SCHEMA).get("scaling"):
            print(
                f"photographs were scaled down into shards to {scaling['longest_side']} px, JPEG quality {scaling['quality']}"
            )
    if unknown := sorted({label for record in records for label in record.labels} - records.table.classes.keys()):
        print(
            f"no class of {records.table.name}: {', '.join(unknown)}; no question can be asked about images with such a label"
        )
    if missing:
        raise FormatError(path, None, f"{len(missing)} of {len(records)} images are not there, the first: {missing[0]}")
    return f"{path}: {len(records)} images, classes of {records.table.name}, valid"


if __name__ == "__main__":
    raise SystemExit(_main())
