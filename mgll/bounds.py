"""Smallest and largest values of the numbers in settings, so that a mistyped one is refused before anything is read."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

#: Setting -> smallest and largest value. A dataclass of settings has them as its `bounds`.
Bounds = Mapping[str, tuple[float, float]]


def check_bounds(settings: Any, within: str = "") -> None:
    """Compare the numbers of settings, and of the settings within them, with their bounds; None is a number that is not given.

    Raises:
        ValueError: for the first number that is out of its bounds.
    """
    for name, (low, high) in getattr(settings, "bounds", {}).items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            bounds = f"from {low:g} on" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{within}{name} is {value}; give a number {bounds}")
    for field in fields(settings):
        if is_dataclass(inner := getattr(settings, field.name)):
            check_bounds(inner, f"{within}{field.name}.")
