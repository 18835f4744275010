"""What `graft.json` holds."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mgll.formats import FormatError, Row
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.tower_spec import TowerSpec

GRAFT = "graft.json"


class Donor(Row):
    """The tower file that was grafted: its path as given, SHA-256 of the file, and its own record of where it comes from."""

    path: str
    sha256: str
    origin: dict[str, Any] = Field(default_factory=dict)


class TensorChange(Row):
    """One tensor in which graft and host differ.

    Attributes:
        name: as in the files.
        change: `replaced` by or added from the donor; `new` was initialised and needs training; `dropped` is gone.
        sha256: of its bytes; None when dropped.
        before: SHA-256 of the host's tensor of that name; None where it had none.
        shape: its present shape, or its last one when dropped.
    """

    name: str
    change: Literal["replaced", "new", "dropped"]
    sha256: str | None
    before: str | None
    shape: tuple[int, ...]


class WarmStart(Row):
    """The linear map that a warm graft starts from.

    Attributes:
        images: unlabelled images on which it was fitted.
        held_out: those among them that chose its strength and were left out for `explained`.
        tokens: pairs of tokens.
        strength: of the ridge, in units of the donor tokens' mean variance.
        explained: share of the variance of the old tower's tokens that it explains on the images left out.
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
        host: the host's name in the registry.
        source: the checkpoint as the user named it.
        donor: the tower; None where the host was only converted to the layout that we load.
        settings: what the user chose, token policy among them.
        features: vectors that the connector yields for one image.
        placeholders: image tokens that the processor puts into the prompt; equal to `features`.
        tower: which model the donor is and how it is run, where the host's class cannot do it; None where that class can.
        loads_in: `transformers`, or `mllm_adapters.load` where the graft needs code of ours.
        warm: what a warm graft starts from; None for a cold one.
        connector_needs_training: False only if the donor equals the old tower in every byte and in how it is used.
        tensors: what changed.
        files: every file of the directory but this one.
        provenance: versions and commit.
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
        """The tensors with this change."""
        return [tensor for tensor in self.tensors if tensor.change == what]


def read_graft(directory: str | os.PathLike[str]) -> Graft:
    """The record of a graft directory.

    Raises:
        FormatError: if it is missing or has a wrong field.
    """
    path = Path(directory) / GRAFT
    if not path.is_file():
        raise FormatError(directory, None, f"no {GRAFT} in it: not a graft, or one that was not finished")
    try:
        return Graft.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        said = "; ".join(f"field {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise FormatError(path, None, said) from None
