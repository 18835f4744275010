"""Whether a file's tensors are exactly those that a model wants."""

from collections.abc import Mapping
from typing import Any


def misfits(found: Mapping[str, Any], expected: Mapping[str, Any], wanted_by: str) -> list[str]:
    """One phrase for every tensor that is missing, surplus or misshapen, sorted; empty where all fit.

    Args:
        found: tensors of the file, or their shapes.
        expected: tensors of the model, which may be on the meta device, or their shapes.
        wanted_by: what says how they should be ("the config says", "the model has").
    """
    has, wants = _shapes(found), _shapes(expected)
    problems = [f"{name} is missing" for name in wants.keys() - has.keys()]
    problems += [f"{name} is surplus" for name in has.keys() - wants.keys()]
    both = has.keys() & wants.keys()
    problems += [f"{name} is {has[name]}, {wanted_by} {wants[name]}" for name in both if has[name] != wants[name]]
    return sorted(problems)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", value)) for name, value in tensors.items()}
