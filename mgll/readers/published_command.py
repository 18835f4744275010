"""The command of every reader of a published data set: the same flags, and the manifest in the end."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.readers.class_tables import read_classes
from mgll.readers.labels import add_vocabulary_argument
from mgll.readers.published_set import Choices, PublishedSet, read_published_set
from mgll.readers.splits import SHARES, parse_shares
from mgll.readers.writing import write_found


class Command(Protocol):
    """A command: flags in, those of the command line where there are none; its exit status out."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Do it."""


def command_of(data_set: PublishedSet, about: str | None) -> Command:
    """The command of a reader, `python -m mgll.readers.NAME FOLDER --out manifest.jsonl`."""

    @ends_in_one_line
    def command(arguments: Sequence[str] | None = None) -> int:
        options = parser_of(data_set, about).parse_args(arguments)
        return write_set(data_set, options)

    return command


def write_set(data_set: PublishedSet, options: argparse.Namespace) -> int:
    """Read the data set as the flags of `parser_of` say, and write its manifest; returns the exit code."""
    choices = Choices(
        labels=tuple(part.strip() for part in options.labels.split(",") if part.strip()),
        vocabulary=tuple(options.vocabulary),
        uncertain_is_positive=options.uncertain == "positive",
        shares=options.shares,
        validation=options.validation,
        seed=options.seed,
    )
    folder = Path(options.folder)
    table = read_classes(data_set.classes)
    return write_found(
        options.out, lambda: read_published_set(data_set, folder, choices), table=table, made_from=options.folder
    )


def parser_of(data_set: PublishedSet, about: str | None) -> CommandParser:
    """The flags of a reader."""
    parser = CommandParser(
        prog=f"python -m mgll.readers.{data_set.download.reader}",
        description=f"{about}\n{data_set.download.what} ({data_set.download.licence})",
    )
    add = parser.add_argument
    add("folder", help="where the data set was unpacked")
    add("--out", required=True, help="manifest to write")
    add("--labels", default="", metavar="COLUMN,...", help=f"read these alone of {_named(data_set)}")
    add("--uncertain", default="leave-out", choices=["leave-out", "positive"], help="cells of value -1")
    add("--shares", type=parse_shares, default=SHARES, help="train, val, test without an official split (0.7,0.1,0.2)")
    add(
        "--validation",
        type=_share,
        help=f"share of the training patients for validation, where no split is official (default: {data_set.validation:g})",
    )
    add("--seed", type=int, default=0, help="seed of splits that are not official")
    add_vocabulary_argument(parser)
    return parser


def _named(data_set: PublishedSet) -> str:
    known = ", ".join((*data_set.labels, *data_set.one_hot))
    return f"{known}; if none are named: {', '.join(data_set.usual)}" if data_set.usual else known


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, found {text!r}")
    return share
