"""Whether a file's tensors are exactly those that a model wants."""

from collections.abc import Mapping

from torch import Tensor


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], wanted_by: str) -> list[str]:
    """One phrase for every tensor that is missing, surplus or misshapen, sorted; empty where all fit.

    Args:
        found: tensors of the file.
        expected: tensors of the model; only their shapes are read, so they may be on the meta device.
        wanted_by: what says how they should be ("the config says", "the model has").
    """
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is surplus" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(found[name].shape)}, {wanted_by} {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return sorted(problems)
