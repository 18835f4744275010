"""Words that hosts and grafts share: errors, settings, a checkpoint on disk, new tensors.

A *host* is a family of multimodal language models. A *donor* is a vision tower, in a tower file, that is about to be grafted: it
takes the place of a host's own tower. A *graft* is the host's checkpoint with the donor in it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgll.formats import FormatError, Row, one_line
from mgll.weights.unbuildable import UNBUILDABLE
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import Part
from mllm_adapters.contract.token_policy import TokenPolicy


class HostError(ValueError):
    """A checkpoint, tower or setting that does not fit the host; the message says what was found and what to do."""


@contextmanager
def fields_of(directory: Path) -> Iterator[None]:
    """Name the directory where the fields of its JSON files are not what the block expects of them.

    The files have hundreds of fields in ten families, and whoever wrote them may have put a text, a list, null or zero anywhere.

    Raises:
        FormatError: in the place of what Python raises for such values.
    """
    try:
        yield
    except (FormatError, HostError):
        raise
    except Exception as error:
        # the library of tokenizers, which is no Python, raises the bare class; transformers an OSError that is none of the machine
        of_machine = not isinstance(error, OSError) or error.errno is not None
        if not isinstance(error, UNBUILDABLE) and type(error) is not Exception and of_machine:
            raise
        said = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise FormatError(
            directory, None, f"config.json or another of its JSON files lacks a field or has a wrong value ({said})"
        ) from error


class GraftSettings(Row):
    """The user's choices for a graft.

    Attributes:
        tokens: the token policy (see `mllm_adapters.contract.token_policy`).
        feature_layer: which hidden state of the tower the connector reads (-1 is the last); None keeps the host's.
        feature_select: `default` drops the class token, `full` keeps it; None keeps the host's.
        connector: `keep` leaves the host's weights wherever they fit; `new` initialises all of them.
        seed: seed of newly initialised tensors.
        warm: start from a linear map of the donor's tokens to the old tower's, fitted on images (see `mllm_adapters.graft.warm`).
    """

    tokens: TokenPolicy = "native"
    feature_layer: int | None = None
    feature_select: Literal["default", "full"] | None = None
    connector: Literal["keep", "new"] = "keep"
    seed: int = 0
    warm: bool = False


@dataclass(frozen=True)
class Source:
    """A host's checkpoint on disk, under the names of the layout that is written.

    Attributes:
        directory: directory of the checkpoint.
        files: JSON files of the checkpoint by name, as they will be written; a file that is not named here stays as it is.
        tensors: place of each tensor's bytes, by the tensor's name in the files that are written.
        leave: patterns of further files that are not copied: code and tokenizers of the published layout.
    """

    directory: Path
    files: dict[str, Json]
    tensors: Mapping[str, Part]
    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewTensor:
    """A tensor to initialise: uniformly within 1 / sqrt(fan_in), as `torch.nn.Linear` does, or with a constant.

    Attributes:
        name: suffix of an existing tensor's name, which is replaced; if none matches, the full name of a tensor to add.
        shape: shape of the tensor.
        fan_in: number of inputs of the layer.
        fill: constant to use in place of random values (norms start at 1 and 0).
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int = 1
    fill: float | None = None
