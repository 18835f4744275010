"""A host's checkpoint on disk, opened under the names of the layout that is written, and taken apart."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgll.formats import FormatError
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError, Source


@dataclass(frozen=True)
class OpenedHost:
    """A host taken apart: its checkpoint, and its tower's tensors by their names in the tower."""

    source: Source
    tower: dict[str, str]
    prefix: str


def open_source(host: Host, directory: Path, parts: Mapping[str, Path] | None = None) -> Source:
    """A host's checkpoint under the names of the layout that is written.

    Raises:
        FormatError: if it is damaged or incomplete.
        HostError: if it is of another family, or a part is lacking or unknown.
    """
    parts = parts or {}
    if unknown := sorted(parts.keys() - host.parts.keys()):
        raise HostError(f"{host.title} has no part {', '.join(unknown)}; parts: {', '.join(host.parts) or 'none'}")
    if (directory / GRAFT).is_file():
        record = read_graft(directory)
        if record.tower is not None:
            raise HostError(
                f"{directory} is itself a graft with code of ours around its tower; graft onto its host instead"
            )
        return host.read_native(directory)
    return host.open(directory, parts)


def take_apart(host: Host, source: Source) -> OpenedHost:
    """Find the tower's tensors in a checkpoint.

    Raises:
        FormatError: if there are none, or not all under one prefix.
    """
    tower = {name: match for name in source.tensors if (match := re.match(host.tower_keys, name))}
    if not tower:
        raise FormatError(source.directory, None, f"no tensor of a vision tower in it (names like {host.tower}.*)")
    prefixes = {match.group() for match in tower.values()}
    if len(prefixes) > 1:
        raise FormatError(
            source.directory, None, f"the tower's tensors have several prefixes: {', '.join(sorted(prefixes))}"
        )
    names = {name[match.end() :]: name for name, match in tower.items()}
    return OpenedHost(source, names, prefixes.pop())
