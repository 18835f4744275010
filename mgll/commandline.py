"""Settings dataclasses on the command line: `--config FILE.yaml` fills them, flags override it."""

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from mgll.bounds import check_bounds
from mgll.configs import find_config
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
        ValueError: if a number is out of its bounds (`mgll.bounds`).
    """
    words = _with_configs(sys.argv[1:] if arguments is None else arguments)
    parser = SettingsParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below; flags go over it")
    parser.add_class_arguments(settings, as_group=False)
    values = parser.parse_args(parser.spelled(words))
    del values["config"]
    found = settings(**vars(parser.instantiate_classes(values)))
    check_bounds(found)
    return found


class SettingsHelp(FlagHelp, DefaultHelpFormatter):
    """Help with the docstring's sentence, the type and the default of every setting."""


class SettingsParser(OneSpelling, ArgumentParser):
    """The parser of settings. Several values of a setting are written `--seeds 0,1`, `--seeds 0 1` or `--seeds [0,1]`."""

    def __init__(self, **options: Any) -> None:
        usage = "%(prog)s [--config FILE.yaml] [--FLAG VALUE ...]"
        own = {"prog": typed_as(), "usage": usage, "formatter_class": SettingsHelp, "allow_abbrev": False}
        super().__init__(**{**own, **options})

    def spelled(self, arguments: Sequence[str]) -> list[str]:
        """The words of a command line: flags as they were defined, several values as a YAML list, a bare switch as `true`."""
        words: list[str] = []
        several = False
        given = super().spelled(arguments)
        for word, after in zip(given, [*given, "--"][1:], strict=True):
            flag, equals, value = word.partition("=")
            if flag.startswith("--"):
                if not equals and after.startswith("--") and _is_switch(self._option_string_actions.get(flag)):
                    word = f"{flag}=true"
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
        path = ".".join(re.findall(r'Parser key "(.*?)"', message))
        if unknown := re.search(r"(?:Option|Key) '(.*?)' is not (?:accepted|expected)", message):
            name = ".".join(filter(None, (path, unknown[1])))
            message = f"there is no setting {name}{did_you_mean(name, list(self._names()))}"
        elif path:
            message = f"--{path}: {_plainly(message)}"
        elif missing := re.match(r"the following arguments are required: (.*)", message):
            message = f"{' and '.join('--' + name for name in missing[1].split(', '))} must be given"
        return super().explained(message)

    def _names(self) -> Iterator[str]:
        """The names of all settings, also of those within a setting that may be None."""
        for flag, action in self._option_string_actions.items():
            yield (name := flag.removeprefix("--"))
            inner = [kind for kind in get_args(getattr(action, "_typehint", None)) if is_dataclass(kind)]
            yield from (f"{name}.{field.name}" for kind in inner for field in fields(kind))


def _plainly(message: str) -> str:
    """What jsonargparse says about a wrong value, without Python's words for the types."""
    if told := re.search(r"Expected an? ([^\n]*)\. Got value: (.*?)\s*(?:\n    - |\n  Given|$)", message, re.DOTALL):
        expected, found = told.groups()
    elif "Union subtypes" in message:  # one reason for each type that the value might have had
        expected = " or ".join(re.findall(r"^ *- Expected an? (.*)$", message, re.MULTILINE))
        found = message.rpartition("Given value: ")[2]
    else:
        return message.partition(":")[2].strip()
    expected = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", expected).replace("typing.", "").replace("NoneType", "null")
    expected = re.sub(r"\b(?:dict|Mapping)\b", "{NAME: VALUE, ...}", expected)
    known = re.findall(r"'(.*?)'", expected)
    expected = re.sub(r"Literal\[(.*?)\]", lambda words: words[1].replace("'", ""), expected)
    return f"expected {expected}, found {found}{did_you_mean(found, known)}"


def _is_switch(action: Any) -> bool:
    return getattr(action, "_typehint", None) is bool


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


def _with_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments with the path of every `--config`, each looked through. One that holds settings itself, as text, is no file."""
    words = list(arguments)
    for index, word in enumerate(words):
        if word.startswith("--config="):
            flag, named = "--config=", word.removeprefix("--config=")
        elif index and words[index - 1] == "--config":
            flag, named = "", word
        else:
            continue
        if "\n" not in named and ": " not in named:
            path = find_config(named)
            check_yaml(path)
            words[index] = flag + path
    return words


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
