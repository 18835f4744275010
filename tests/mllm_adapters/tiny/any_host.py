"""The tiny host of any family."""

import importlib
from pathlib import Path
from types import ModuleType


def builder_of(name: str) -> ModuleType:
    """The module that builds the tiny host of this family: `tiny/` and the registry's name, in letters of a module's name."""
    return importlib.import_module(f"tiny.{_plain(name)}")


def save_tiny(name: str, directory: Path) -> Path:
    """Write the tiny host of this family by its builder's function `save_` and the builder's name."""
    getattr(builder_of(name), f"save_{_plain(name)}")(directory)
    return directory


def _plain(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
