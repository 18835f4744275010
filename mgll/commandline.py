"""Settings dataclasses on the command line: `--config FILE.yaml` fills them, flags override it."""

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from mgll.flags import FlagHelp, OneSpelling, did_you_mean, typed_as
from mgll.formats import FormatError, read_text

#: Levels of nesting that a YAML file may have; settings have three.
DEEPEST = 50

SettingsT = TypeVar("SettingsT")


def parse_settings(settings: type[SettingsT], description: str, arguments: list[str] | None = None) -> SettingsT:
    """Read settings from the command line: one flag per field replaces the YAML file of `--config`, which replaces the defaults.

    Exits with a message that names the flag and what it takes if a value is wrong.

    Raises:
        FormatError: if a YAML file is missing, not text, or nested deeper than settings can be.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = SettingsParser(description)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below; flags go over it")
    parser.add_class_arguments(settings, as_group=False)
    for path in _config_files(arguments):
        check_yaml(path)
    values = parser.parse_args(parser.spelled(arguments))
    del values["config"]
    return settings(**vars(parser.instantiate_classes(values)))


class SettingsHelp(FlagHelp, DefaultHelpFormatter):
    """Help with the docstring's sentence, the type and the default of every setting."""


class SettingsParser(OneSpelling, ArgumentParser):
    """The parser of settings. Several values of a setting are written `--seeds 0,1`, `--seeds 0 1` or `--seeds [0,1]`."""

    def __init__(self, description: str) -> None:
        usage = "%(prog)s [--config FILE.yaml] [--FLAG VALUE ...]"
        super().__init__(
            prog=typed_as(), description=description, usage=usage, formatter_class=SettingsHelp, allow_abbrev=False
        )

    def spelled(self, arguments: Sequence[str]) -> list[str]:
        """The words of a command line, flags as they were defined and the several values of a setting as YAML lists."""
        words: list[str] = []
        several = False
        for word in super().spelled(arguments):
            flag, equals, value = word.partition("=")
            if flag.startswith("--"):
                several = _takes_several(self._option_string_actions.get(flag))
                words.append(f"{flag}={_listed(value)}" if several and equals else word)
                several &= not equals
            elif several and words[-1].startswith("["):
                words[-1] = f"{words[-1][:-1]},{word}]"
            else:
                words.append(_listed(word) if several else word)
                several &= words[-1] != word
        return words

    def explained(self, message: str) -> str:
        """What is wrong with a setting, on one line that names its flag."""
        if wrong := re.match(r"""Parser key "(.*?)":\s*(.*)""", message, re.DOTALL):
            message = f"--{wrong[1]}: {_plainly(wrong[2])}"
        elif missing := re.match(r"the following arguments are required: (.*)", message):
            message = f"{' and '.join('--' + name for name in missing[1].split(', '))} must be given"
        elif unknown := re.search(r"(?:Option|Key) '(.*?)' is not (?:accepted|expected)", message):
            known = [flag.removeprefix("--") for flag in self._option_string_actions]
            message = f"there is no setting {unknown[1]}{did_you_mean(unknown[1], known)}"
        return super().explained(message)


def _plainly(message: str) -> str:
    """What jsonargparse says about a wrong value, without Python's words for the types."""
    message = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).replace("typing.", "")
    if choice := re.search(r"Expected an? Literal\[(.*?)\]\. Got value: (\S+)", message):
        known = re.findall(r"'(.*?)'", choice[1])
        return f"expected one of {', '.join(known)}, found {choice[2]}{did_you_mean(choice[2], known)}"
    message = re.sub(r"Expected an? (.*?)\. Got value: (.*)", r"expected \1, found \2", message, flags=re.DOTALL)
    return re.sub(r"\bexpected (dict|Mapping)\b", "expected {NAME: VALUE, ...}", message)


def _takes_several(action: Any) -> bool:
    """Whether a flag is for a setting that is a tuple of plain values (or None)."""
    kind = getattr(action, "_typehint", None)
    kinds = [each for each in (get_args(kind) if get_origin(kind) is not tuple else [kind]) if each is not type(None)]
    return bool(kinds) and all(get_origin(each) is tuple for each in kinds)


def _listed(value: str) -> str:
    """`0,1` as the YAML list `[0,1]`; what is written as YAML, or names nothing, stays as it is."""
    return value if value.startswith(("[", "{", "(")) or value in ("null", "None") else f"[{value}]"


def check_yaml(path: str | os.PathLike[str]) -> None:
    """Look through a YAML file event by event: building a value that is thousands of levels deep crashes Python without a word.

    Raises:
        FormatError: if the file is missing, not UTF-8 text, or nested more than 50 levels deep.
    """
    depth = 0
    try:
        for event in yaml.parse(read_text(path), Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise FormatError(path, None, f"nested more than {DEEPEST} levels deep")
    except yaml.YAMLError as error:
        raise FormatError(path, None, f"not YAML ({error})") from None


def _config_files(arguments: list[str]) -> list[str]:
    """Values of `--config`; one that holds settings itself, as text over several lines, is no file."""
    pairs = zip(arguments, [*arguments, ""][1:], strict=True)
    named = [after if word == "--config" else word.partition("=")[2] for word, after in pairs if _is_config(word)]
    return [name for name in named if "\n" not in name and ": " not in name]


def _is_config(word: str) -> bool:
    return word == "--config" or word.startswith("--config=")


@contextmanager
def stopped_by_signals(out: str) -> Iterator[None]:
    """On Ctrl-C, or SIGTERM as schedulers send it, end a run with status 130 and a message that it can be resumed from `out`."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from the newest checkpoint in {out}", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)
