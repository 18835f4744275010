"""A checkpoint that lies in the layout that is written."""

from pathlib import Path

from mllm_adapters.checkpoints.json_files import json_files
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError, Source


def read_native(host: Host, directory: Path) -> Source:
    """A checkpoint that lies in the layout that is written.

    Raises:
        FormatError: if it is damaged or incomplete.
        HostError: if it is of another family.
    """
    files = json_files(directory)
    found = files["config.json"].get("model_type")
    if found != host.model_type:
        raise HostError(
            f"{directory} is a {found!r} checkpoint, {host.title} needs {host.model_type!r}; choose another --model"
        )
    return Source(directory, files, read_checkpoint(directory))
