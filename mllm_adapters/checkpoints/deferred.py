"""Tensors that lie in no file as they are written: one is computed when its bytes are needed, the other never has any."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Computed:
    """A tensor that is computed from others each time its bytes are needed, so that only one such tensor is in memory at a time.

    Attributes:
        inputs: the tensors that it is made of. The first has its dtype and shape, and is the one whose place it takes.
        compute: makes it.
    """

    inputs: tuple[Any, ...]
    compute: "Callable[[], Tensor]"

    @property
    def shard(self) -> Path | None:
        """File of the tensor whose place it takes."""
        found: Path | None = self.inputs[0].shard
        return found

    @property
    def dtype(self) -> str:
        """Name of the dtype in safetensors."""
        return str(self.inputs[0].dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.inputs[0].shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(self.inputs[0].nbytes)


@dataclass(frozen=True)
class Absent:
    """A tensor that a checkpoint leaves out and a graft replaces, so that nobody needs more than its dtype and shape."""

    dtype: str
    shape: tuple[int, ...]
    item: int
    shard: None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes that it would have; `item` is that of one number."""
        return math.prod(self.shape) * self.item
