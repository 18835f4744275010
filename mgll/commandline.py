"""Settings dataclasses on the command line: `--config FILE.yaml` fills them, flags override it."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import yaml
from jsonargparse import ArgumentParser

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
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(settings, as_group=False)
    for path in _config_files(arguments):
        check_yaml(path)
    values = parser.parse_args(arguments)
    del values["config"]
    return settings(**vars(parser.instantiate_classes(values)))


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
