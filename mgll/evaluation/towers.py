"""What is evaluated: a tower file, or a model by name, known by the hash of its weights before it is built."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mgll.files import sha256
from mgll.images.preprocessing import Decode, Preprocessing
from mgll.tower.config import Pooling
from mgll.tower.file import load_tower, read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Tower:
    """A tower that can be evaluated.

    Attributes:
        name: how tables call it.
        digest: hex SHA-256 that stands for its weights.
        preprocessing: how images become its input.
        pooling: which of its outputs is the feature.
        load: builds the model with its weights, in evaluation mode, on the CPU.
        path: its tower file, whose text side may be used; None for a model of another kind.
    """

    name: str
    digest: str
    preprocessing: Preprocessing
    pooling: Pooling
    load: "Callable[[], PreTrainedModel]"
    path: Path | None = None

    def decoding(self, decode: Decode | None) -> "Tower":
        """The tower with another way to decode images than the one it was trained with; None keeps that."""
        preprocessing = self.preprocessing.model_copy(update={"decode": decode or self.preprocessing.decode})
        return replace(self, preprocessing=preprocessing)


def tower_file(path: str | os.PathLike[str], name: str | None = None) -> Tower:
    """The tower in a tower file, called `name` or else after its path.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower.
    """
    header = read_header(path)
    where = Path(path)
    return Tower(
        name or str(path), sha256(path), header.preprocessing, header.pooling, lambda: load_tower(path)[0], where
    )
