"""Grafting: write a host's checkpoint with another tower, as bytes. `mllm_adapters.contract.graft_record` describes graft.json."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.files import atomic_path, sha256
from mgll.provenance import provenance
from mgll.tower import file as tower_file
from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.model_card import write_card
from mllm_adapters.checkpoints.tensors import read_checkpoint, write_index
from mllm_adapters.contract.graft_record import GRAFT, Donor, Graft, WarmStart
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, Source, fields_of
from mllm_adapters.graft.folder import _check_out, write_files
from mllm_adapters.graft.source import check_whole, open_source, take_apart
from mllm_adapters.graft.validation import check_count, check_processor
from mllm_adapters.graft.weights import write_kept, write_weights

if TYPE_CHECKING:
    from torch import Tensor


def graft_tower(
    host: Host,
    source: str | os.PathLike[str],
    encoder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: GraftSettings | None = None,
    copy: bool = False,
    named: str | None = None,
    parts: Mapping[str, Path] | None = None,
    warm: Sequence[Path] | None = None,
    follow_links: bool = False,
    verify: bool = False,
) -> Graft:
    """Write to `out` the checkpoint in `source` with the tower file `encoder` in the place of its own tower.

    Tensors that stay are linked or streamed, never loaded. `out` appears whole or not at all; `source` is only read.

    Args:
        host: the family.
        source: a checkpoint directory of that family.
        encoder: a tower file (`mgll.ckpt`).
        out: directory to write; an earlier graft there is replaced, anything else is refused.
        settings: token policy and the rest; the defaults when None.
        copy: copy untouched shards even where a hard link would do.
        named: name of the checkpoint in the record, such as its hub id; `source` when None.
        parts: further checkpoints that the published one leaves out (`Host.parts`).
        warm: unlabelled images on which the donor's tokens are fitted to the old tower's (`mllm_adapters.graft.warm`).
        follow_links: open files to which symbolic links in the checkpoint lead, even outside of it.
        verify: look for NaN and infinity in every byte of the weights that stay, not only in samples of large tensors.

    Raises:
        FormatError: if checkpoint or tower are damaged or incomplete, or hold NaN or infinity.
        ImageError: naming images of `warm` that cannot be read.
        HostError: if they do not fit each other or the settings, or `out` holds anything but an earlier graft.
    """
    # here, because torch takes seconds to import
    from mllm_adapters.loading.empty_model import empty_model

    directory, out = Path(source), Path(out)
    settings = (settings or GraftSettings()).model_copy(update={"warm": warm is not None})
    header, donor = tower_file.read_header(encoder), tower_file.read_tower(encoder)
    opened = take_apart(host, open_source(host, directory, parts, follow_links, verify))
    _check_out(out, directory)
    plan = plan_graft(host, opened.source, header, settings)
    fitted, start = ({}, None) if warm is None else _fit(host, opened.source, Path(encoder), plan, warm)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        tensors = write_weights(opened, donor, plan, settings, temporary, copy, fitted)
        write_files(opened.source, plan.files, temporary)
        model = empty_model(host, out, plan.files["config.json"], read_checkpoint(temporary), plan.tower)
        check_processor(host, temporary, out, plan.features, model)
        facts = [
            f"host: {named or directory}",
            *_taken(parts),
            f"donor tower: {encoder}",
            f"token policy: {settings.tokens}",
        ]
        write_card(temporary, f"{host.title} with another vision tower", [*facts, "everything else: graft.json"])
        same = plan.unchanged_behaviour and all(tensor.sha256 == tensor.before for tensor in tensors)
        return _write_record(
            temporary,
            host,
            plan,
            source=named or str(directory),
            donor=Donor(path=str(encoder), sha256=sha256(encoder), origin=header.origin),
            settings=settings,
            warm=start,
            connector_needs_training=not same,
            tensors=tuple(tensors),
        )


def convert_host(
    host: Host,
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    copy: bool = False,
    named: str | None = None,
    parts: Mapping[str, Path] | None = None,
    follow_links: bool = False,
    verify: bool = False,
) -> Graft:
    """Write to `out` the untouched host in the layout that `mllm_adapters.load` reads: the baseline that a graft is compared with.

    The arguments are those of `graft_tower`.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete, or holds NaN or infinity.
        HostError: if it is of another family, or its processor puts in another number of image tokens than its tower yields.
    """
    # here, because torch takes seconds to import
    from mllm_adapters.loading.empty_model import empty_model

    directory, out = Path(directory), Path(out)
    source = open_source(host, directory, parts, follow_links, verify)
    check_whole(host, source)
    with fields_of(directory):
        features = host.features(source.files)
        check_count(features, host.placeholders(source.files))
    _check_out(out, directory)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        written = write_kept(source, set(), temporary, copy)
        write_index(temporary, written)
        write_files(source, source.files, temporary)
        model = empty_model(host, directory, source.files["config.json"], read_checkpoint(temporary))
        check_processor(host, temporary, directory, features, model)
        write_card(temporary, host.title, [f"converted from: {named or directory}", *_taken(parts)])
        return _write_record(
            temporary,
            host,
            Plan(source.files, features),
            source=named or str(directory),
            donor=None,
            settings=GraftSettings(),
            connector_needs_training=False,
            tensors=(),
        )


def _taken(parts: Mapping[str, Path] | None) -> list[str]:
    """What a checkpoint left out, for the model's card."""
    return [f"{name}: {path}" for name, path in (parts or {}).items()]


def _fit(
    host: Host, source: Source, encoder: Path, plan: Plan, images: Sequence[Path]
) -> "tuple[dict[str, Tensor], WarmStart]":
    from mllm_adapters.graft.warm import fit  # imports torch, which a graft without `warm` may not need

    check_whole(host, source)
    return fit(host, source, encoder, plan, images)


def _write_record(folder: Path, host: Host, plan: Plan, **facts: Any) -> Graft:
    """Write graft.json beside the files that it names."""
    record = Graft(
        schema="mgll.graft/1",
        host=host.name,
        features=plan.features,
        placeholders=host.placeholders(plan.files),
        tower=plan.tower,
        loads_in="mllm_adapters.load" if plan.tower or ":" in host.model_class else "transformers",
        files=tuple(sorted(path.name for path in folder.iterdir())),
        provenance=provenance(),
        **facts,
    )
    (folder / GRAFT).write_text(record.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return record


def plan_graft(host: Host, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
    """Make the host's plan for this donor and check it. Nothing is written.

    Raises:
        HostError: if host, donor and settings do not fit each other.
    """
    with fields_of(source.directory):
        plan = host.plan(source, donor, settings)
        check_count(plan.features, host.placeholders(plan.files))
    if settings.warm:
        from mllm_adapters.graft.warm import warm_plan

        return warm_plan(host, source, plan, settings)
    return plan
