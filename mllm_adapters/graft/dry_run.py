"""Dry run of a graft: what it would do and need, found from headers alone."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgll.tower import file as tower_file
from mllm_adapters.checkpoints.deferred import Absent
from mllm_adapters.checkpoints.tensors import is_float
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.graft.source import open_source, take_apart
from mllm_adapters.graft.transplant import plan_graft
from mllm_adapters.graft.weights import full_name, is_untouched, kept_by_shard, leaving_tensors


@dataclass(frozen=True)
class DryRun:
    """What a graft would write and what it would leave to train.

    Attributes:
        plan: the host's plan for this donor.
        replaced: number of tensors that come from the donor.
        dropped: number of the host's tensors that are removed and have no successor.
        linked: bytes in shards that stay as they are.
        rewritten: bytes of kept tensors in shards that have to be rewritten.
        arriving: bytes of the donor's tensors and of new tensors.
        connector: number of parameters of the connector, which fine-tuning trains in full.
        adapted: linear layers of the language model that LoRA adapts, as (inputs, outputs).
    """

    plan: Plan
    replaced: int
    dropped: int
    linked: int
    rewritten: int
    arriving: int
    connector: int
    adapted: tuple[tuple[int, int], ...]


def dry_run(
    host: Host,
    source: str | os.PathLike[str],
    encoder: str | os.PathLike[str],
    settings: GraftSettings | None = None,
    parts: Mapping[str, Path] | None = None,
    follow_links: bool = False,
    verify: bool = False,
) -> DryRun:
    """Tell what `mllm_adapters.graft.transplant.graft_tower` would do, from headers alone; nothing is written.

    Raises:
        FormatError: if checkpoint or tower are damaged or incomplete.
        HostError: if they do not fit each other or the settings.
    """
    settings = settings or GraftSettings()
    # here, because torch takes seconds to import
    from torch import nn

    from mllm_adapters.loading.empty_model import empty_model

    opened = take_apart(host, open_source(host, Path(source), parts, follow_links, verify))
    plan = plan_graft(host, opened.source, tower_file.read_header(encoder), settings)
    leaving, tensors = leaving_tensors(opened, plan), opened.source.tensors
    held = {name for name, part in tensors.items() if not isinstance(part, Absent)}
    shards = kept_by_shard(opened.source, leaving)
    sizes = {shard: sum(part.nbytes for part in kept.values()) for shard, kept in shards.items()}
    linked = sum(size for shard, size in sizes.items() if is_untouched(shard, shards[shard]))
    old = tensors[next(iter(opened.tower.values()))]
    item = old.nbytes // math.prod(old.shape)
    donor = tower_file.read_tower(encoder)
    new = {full_name(opened, tensor): math.prod(tensor.shape) for tensor in plan.new}
    own = {name: math.prod(part.shape) for name, part in tensors.items() if name not in leaving}
    inside = [*(part.rpartition(".")[2] for part in host.connector), "bridge"]
    connector = {n: size for n, size in (own | new).items() if any(f".{part}." in f".{n}" for part in inside)}
    # the model's own names decide: those in published files may be older
    modules = empty_model(host, opened.source.directory, opened.source.files["config.json"], tensors).named_modules()
    adapted = [m for name, m in modules if isinstance(m, nn.Linear) and re.fullmatch(host.lora_targets, name)]
    return DryRun(
        plan=plan,
        replaced=len(donor),
        dropped=len((leaving & held) - {opened.prefix + name for name in donor} - new.keys()),
        linked=linked,
        rewritten=sum(sizes.values()) - linked,
        arriving=sum(math.prod(p.shape) * item if is_float(p) else p.nbytes for p in donor.values())
        + sum(new.values()) * item,
        connector=sum(connector.values()),
        adapted=tuple((layer.in_features, layer.out_features) for layer in adapted),
    )
