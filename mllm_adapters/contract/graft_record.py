"""The content of `graft.json`."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mgll.formats import FormatError, Row, describe_errors
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.tower_spec import TowerSpec

GRAFT = "graft.json"


class Donor(Row):
    """The tower file that was grafted: its path as the user gave it, its SHA-256, and its own record of where it comes from."""

    path: str
    sha256: str
    origin: dict[str, Any] = Field(default_factory=dict)


class TensorChange(Row):
    """A tensor in which graft and host differ.

    Attributes:
        name: name of the tensor in the files.
        change: `replaced` comes from the donor; `new` was initialised and needs training; `dropped` is gone.
        sha256: SHA-256 of the tensor's bytes; None for a dropped tensor.
        before: SHA-256 of the host's tensor with this name; None where the host had none.
        shape: shape of the tensor; for a dropped tensor, the shape that it had.
    """

    name: str
    change: Literal["replaced", "new", "dropped"]
    sha256: str | None
    before: str | None
    shape: tuple[int, ...]


class WarmStart(Row):
    """The linear map that a warm graft starts from.

    Attributes:
        images: number of unlabelled images on which the map was fitted.
        held_out: number of images among them that chose the strength and on which `explained` was measured.
        tokens: number of pairs of tokens.
        strength: strength of the ridge, in units of the donor tokens' mean variance.
        explained: share of the variance of the old tower's tokens that the map explains on the held-out images.
    """

    images: int
    held_out: int
    tokens: int
    strength: float
    explained: float


class Graft(Row):
    """The content of `graft.json`.

    Attributes:
        schema_: format and version (`schema` in the file).
        host: name of the host in the registry.
        source: the checkpoint as the user named it.
        donor: the tower file; None where the host was only converted to the layout that this project loads.
        settings: the user's settings, token policy included.
        features: number of vectors that the connector yields for one image.
        placeholders: number of image tokens that the processor puts into the prompt; equal to `features`.
        tower: which model the donor is and how it is run; None where the host's own class builds and reads it.
        loads_in: `transformers`, or `mllm_adapters.load` where the graft needs code of this project.
        warm: the map that a warm graft starts from; None for a cold graft.
        connector_needs_training: False only if the donor equals the old tower in every byte and in how it is used.
        tensors: every tensor that changed.
        files: every file of the directory except this one.
        provenance: versions of the software and commit of this project.
    """

    schema_: Literal["mgll.graft/1"] = Field(alias="schema")
    host: str
    source: str
    donor: Donor | None
    settings: GraftSettings
    features: int
    placeholders: int
    tower: TowerSpec | None
    loads_in: Literal["transformers", "mllm_adapters.load"]
    warm: WarmStart | None = None
    connector_needs_training: bool
    tensors: tuple[TensorChange, ...]
    files: tuple[str, ...]
    provenance: dict[str, str]

    def changed(self, what: str) -> list[TensorChange]:
        """The tensors whose `change` is this word."""
        return [tensor for tensor in self.tensors if tensor.change == what]


def read_graft(directory: str | os.PathLike[str]) -> Graft:
    """Read the record of a graft directory.

    Raises:
        FormatError: if it is missing or has a wrong field.
    """
    path = Path(directory) / GRAFT
    if not path.is_file():
        raise FormatError(directory, None, f"no {GRAFT} in it: not a graft, or one that was not finished")
    try:
        return Graft.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise FormatError(path, None, describe_errors(error)) from None
