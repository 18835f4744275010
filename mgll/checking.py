"""The commands that check one of the files between the stages: `python -m mgll.manifest validate FILE` and the like."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from mgll.flags import CommandParser


def check_command(
    name: str,
    description: str | None,
    verbs: Sequence[str],
    what: str,
    check: Callable[..., str],
    arguments: Sequence[str] | None = None,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a command of the form `VERB PATH` that checks a file or a folder, and print what was found.

    Args:
        name: how the command is typed, for its help.
        description: what it does, for its help.
        verbs: what can be done with the path; the first word on the command line is one of them.
        what: the path in words, for its help.
        check: takes verb and path and returns the sentence to print; it raises `ValueError` (`FormatError` is one) when the
            path does not hold what it should.
        arguments: the words on the command line; those of this process where None.
        flags: further words that may follow, such as `verify` for `--verify`, with their help; `check` is given each by its name.

    Returns:
        Exit status 0. What `check` raises goes on to the command, which says it (`mgll.ending`).
    """
    parser = CommandParser(prog=name, description=description)
    parser.add_argument("command", choices=verbs, help="what is done with it")
    parser.add_argument("path", help=what)
    for flag, meaning in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    options = parser.parse_args(arguments)
    print(check(options.command, options.path, **{flag: getattr(options, flag) for flag in flags}))
    return 0
