"""Settings dataclasses on the command line: `--config FILE.yaml` fills them, flags override it."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from jsonargparse import ArgumentParser

SettingsT = TypeVar("SettingsT")


def parse_settings(settings: type[SettingsT], description: str, arguments: list[str] | None = None) -> SettingsT:
    """Read settings from the command line: one flag per field replaces the YAML file of `--config`, which replaces the defaults.

    Exits with a message that names the flag and what it takes if a value is wrong.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(settings, as_group=False)
    values = parser.parse_args(arguments)
    del values["config"]
    return settings(**vars(parser.instantiate_classes(values)))


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
