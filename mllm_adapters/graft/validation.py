"""Validation of a graft: a host's checkpoint directory with another vision tower in it, and `graft.json` that says how it was made.

`python -m mllm_adapters.graft validate DIR` checks one: every tensor's bytes, and that the processor puts in as many image tokens
as the connector yields features. `mllm_adapters.graft.transplant` makes one.
"""

import os
from pathlib import Path

from mgll.formats import FormatError
from mllm_adapters.checkpoints.json_files import json_files
from mllm_adapters.checkpoints.tensors import read_checkpoint, sha256_of
from mllm_adapters.contract.graft_record import GRAFT, Graft, read_graft
from mllm_adapters.contract.terms import HostError
from mllm_adapters.hosts.registry import get_host


def validate(directory: str | os.PathLike[str]) -> Graft:
    """Check a graft against its record: files, tensors' bytes, that no old tensor is left, and the token count.

    Raises:
        FormatError: if a file or tensor is missing or differs from the record; the message names it.
        HostError: if the number of features differs from the number of image tokens.
    """
    directory = Path(directory)
    record = read_graft(directory)
    lacking = [name for name in record.files if not (directory / name).exists()]
    if lacking:
        raise FormatError(directory, None, f"files named in {GRAFT} are missing: {', '.join(lacking)}")
    tensors = read_checkpoint(directory)
    for change in record.tensors:
        if change.change == "dropped":
            if change.name in tensors:
                raise FormatError(
                    tensors[change.name].shard or directory, None, f"still holds {change.name}, which was dropped"
                )
        elif change.name not in tensors:
            raise FormatError(directory, None, f"{change.name} is in no shard")
        elif sha256_of(tensors[change.name]) != change.sha256:
            raise FormatError(
                tensors[change.name].shard or directory, None, f"{change.name} has other bytes than {GRAFT} says"
            )
    host = get_host(record.host)
    check_count(record.features, host.placeholders(json_files(directory)))
    return record


def check_count(features: int, placeholders: int) -> None:
    """Raise `HostError` unless the processor puts in as many image tokens as there are features."""
    if features != placeholders:
        raise HostError(
            f"the connector yields {features} features an image, the processor puts in {placeholders} image tokens"
        )
