"""Words that hosts and grafts share: errors, settings, a checkpoint on disk, new tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgll.formats import Row
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import Part
from mllm_adapters.contract.token_policy import TokenPolicy


class HostError(ValueError):
    """A checkpoint, tower or setting that does not fit the host; the message says what was found and what to do."""


class GraftSettings(Row):
    """What the user chooses about a graft.

    Attributes:
        tokens: the token policy (see `mllm_adapters.contract.token_policy`).
        feature_layer: which hidden state of the tower the connector reads (-1 is the last); None keeps the host's.
        feature_select: `default` drops the class token, `full` keeps it; None keeps the host's.
        connector: `keep` the host's weights wherever they fit, or make all of them `new`.
        seed: of newly initialised tensors.
        warm: start from a map of the donor's tokens to the old tower's, fitted on images (see `mllm_adapters.graft.warm`).
    """

    tokens: TokenPolicy = "native"
    feature_layer: int | None = None
    feature_select: Literal["default", "full"] | None = None
    connector: Literal["keep", "new"] = "keep"
    seed: int = 0
    warm: bool = False


@dataclass(frozen=True)
class Source:
    """A host's checkpoint as it lies on disk, under the names of the layout that is written.

    Attributes:
        directory: where it lies.
        files: its JSON files by name, as they are to be written; a file that is not named here stays as it is.
        tensors: where the bytes of each tensor lie, by the tensor's name in the files that are written.
        leave: patterns of further files that are not copied: code and tokenizers of the published layout.
    """

    directory: Path
    files: dict[str, Json]
    tensors: Mapping[str, Part]
    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewTensor:
    """A tensor that is initialised afresh: uniformly within 1 / sqrt(fan_in) as `torch.nn.Linear` does, or with a constant.

    Attributes:
        name: end of the tensor's name in the host's files; where no tensor's name ends so, the whole name of a surplus one.
        shape: its new shape.
        fan_in: inputs of the layer.
        fill: the constant, in place of random values (norms start at 1 and 0).
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int = 1
    fill: float | None = None
