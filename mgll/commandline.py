"""Settings dataclasses on the command line: `--config FILE.yaml` fills them, flags override it."""

from typing import TypeVar

from jsonargparse import ArgumentParser

SettingsT = TypeVar("SettingsT")


def parse_settings(settings: type[SettingsT], description: str, arguments: list[str] | None = None) -> SettingsT:
    """Settings from flags named like the fields, over a YAML file, over the defaults.

    Exits with a message that names the flag and what it takes when a value is wrong.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(settings, as_group=False)
    values = parser.parse_args(arguments)
    del values["config"]
    return settings(**vars(parser.instantiate_classes(values)))
