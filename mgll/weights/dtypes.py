"""Whether the dtypes that files give their tensors can be true. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mgll.formats import FormatError
from mgll.weights.finite import EXPONENTS


class Typed(Protocol):
    """A tensor of a file: its dtype as safetensors names it, and the file; None for one that lies in no file."""

    @property
    def dtype(self) -> str: ...  # noqa: D102

    @property
    def shard(self) -> Path | None: ...  # noqa: D102


def is_float(dtype: str) -> bool:
    """Whether this is a dtype of floating-point numbers, as safetensors names it."""
    return dtype.startswith(("F", "BF"))


def check_dtypes(path: Path, tensors: Mapping[str, Typed], model: Any) -> None:
    """Check the dtypes of a file or folder against the model that will be built of it.

    A loader converts whatever it finds, therefore a wrong dtype of the right size gives wrong numbers without an error. Refused
    are whole numbers in the place of weights, dtypes in which weights are not read, and float16 beside bfloat16 in one file: both
    have 16 bits, and no program writes both.

    Args:
        path: the file or folder, for tensors that lie in no file.
        tensors: its tensors by name.
        model: the model, which may be on the meta device; of its tensors only the last part of the name matters, because files
            may have older names.

    Raises:
        FormatError: naming the first tensor that cannot be what its dtype says.
    """
    own = [*model.state_dict().items(), *model.named_buffers()]
    counters = {name.rpartition(".")[2] for name, tensor in own if not tensor.is_floating_point()}
    halves: dict[Path, dict[str, str]] = {}
    for name, tensor in tensors.items():
        where, dtype = tensor.shard or path, tensor.dtype
        if dtype not in EXPONENTS and (is_float(dtype) or dtype[0] not in "IUB"):
            raise FormatError(where, None, f"{name} is {dtype}; weights are read in {', '.join(EXPONENTS)}")
        if not is_float(dtype) and name.rpartition(".")[2] not in counters:
            raise FormatError(where, None, f"{name} is {dtype}, whole numbers in the place of weights")
        if dtype in ("F16", "BF16"):
            halves.setdefault(where, {}).setdefault(dtype, name)
    for where, found in halves.items():
        if len(found) > 1:
            one, other = (f"{name} is {dtype}" for dtype, name in sorted(found.items()))
            raise FormatError(where, None, f"{one} and {other}, in one file: one of the two is wrong")
