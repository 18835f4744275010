"""A host's checkpoint on disk: opened under the tensor names that a graft writes, and its tower's tensors found."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgll.formats import FormatError
from mgll.weights.model_folder import check_entries, read_json
from mllm_adapters.checkpoints.deferred import Absent
from mllm_adapters.checkpoints.tensors import check_finite
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError, Source, fields_of
from mllm_adapters.hosts.registry import HOSTS, get_host


@dataclass(frozen=True)
class OpenedHost:
    """A host's checkpoint in which the tower has been found.

    Attributes:
        source: the whole checkpoint.
        tower: names of the tower's tensors in the files, by their names in the tower.
        prefix: the part of the names in the files that stands before the names in the tower.
    """

    source: Source
    tower: dict[str, str]
    prefix: str


def open_source(
    host: Host,
    directory: Path,
    parts: Mapping[str, Path] | None = None,
    follow_links: bool = False,
    verify: bool = False,
) -> Source:
    """Open a host's checkpoint under the names of the layout that is written, and compare it with the model of its config.json.

    Args:
        host: the family.
        directory: the checkpoint.
        parts: directories of further checkpoints, by their names in `Host.parts`.
        follow_links: open files to which symbolic links in these directories lead, even outside of them.
        verify: look for NaN and infinity in every byte of the weights, not only in samples of large tensors.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete, its tensors are not those of its config.json or are no numbers, or
            links lead out of it.
        HostError: if it is of another family or itself a graft that plain transformers cannot read, or if a part is missing or
            unknown.
    """
    parts = parts or {}
    if unknown := sorted(parts.keys() - host.parts.keys()):
        raise HostError(f"{host.title} has no part {', '.join(unknown)}; parts: {', '.join(host.parts) or 'none'}")
    for folder in (directory, *parts.values()):
        check_entries(folder, follow_links)
    if (directory / GRAFT).is_file() and read_graft(directory).tower is not None:
        raise HostError(
            f"{directory} is itself a graft with code of ours around its tower; graft onto its host instead"
        )
    if (directory / "config.json").is_file():
        _check_family(host, directory)
    with fields_of(directory):
        source = host.open(directory, parts)
    # here, because torch takes seconds to import
    from mllm_adapters.loading.empty_model import empty_model

    empty_model(host, directory, source.files["config.json"], source.tensors)
    check_finite(source.tensors, directory, verify)
    return source


def _check_family(host: Host, directory: Path) -> None:
    """Raise `HostError` where a config.json is another family's own; a layout that several share is left to the host."""
    config = read_json(directory / "config.json")
    found = [other for other in map(get_host, HOSTS) if other.in_makers_layout(config)]
    if found and host.name not in {other.name for other in found}:
        raise HostError(
            f"{directory} is a {config.get('model_type')!r} checkpoint: {found[0].title}; type --model {found[0].name}"
        )


def check_whole(host: Host, source: Source) -> None:
    """Check that a checkpoint holds its own tower, which everything but a cold graft reads.

    Raises:
        HostError: if the tower was left out, and no part gives it.
    """
    if any(isinstance(part, Absent) for part in source.tensors.values()):
        part = host.tower_part or "tower"
        raise HostError(
            f"{source.directory}: the checkpoint leaves its {part} tower out; add --part {part}=DIR_OR_HUB_ID"
            f" ({host.parts.get(part)})"
        )


def take_apart(host: Host, source: Source) -> OpenedHost:
    """Find the tower's tensors in a checkpoint.

    Raises:
        FormatError: if there are no such tensors, or their names do not share one prefix.
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
