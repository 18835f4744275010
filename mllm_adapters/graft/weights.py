"""Shards of a graft: linked, rewritten without the tensors that go, and one new shard for the tensors that come."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mgll.tower.positions import POSITION_TABLES, resize_positions
from mllm_adapters.checkpoints.deferred import Absent
from mllm_adapters.checkpoints.tensors import (
    SINGLE,
    Held,
    Part,
    Stored,
    check_finite,
    is_float,
    place,
    read_shard,
    read_tensor,
    sha256_of,
    torch_dtype,
    write_index,
    write_shard,
)
from mllm_adapters.contract.graft_record import TensorChange
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, NewTensor, Source
from mllm_adapters.graft.source import OpenedHost

if TYPE_CHECKING:
    from torch import Tensor

TOWER_SHARD = "model-mgll-tower.safetensors"


def write_weights(
    opened: OpenedHost,
    donor: dict[str, Stored],
    plan: Plan,
    settings: GraftSettings,
    out: Path,
    copy: bool,
    fitted: "Mapping[str, Tensor]",
) -> list[TensorChange]:
    """Write the shards of a graft and their index; returns a record of every tensor that is replaced, new or dropped."""
    old = {name: part for name, part in opened.source.tensors.items() if not isinstance(part, Absent)}
    arriving = _donor_tensors(opened, donor, plan)
    fresh = {name: Held(tensor) for name, tensor in _new_tensors(opened, plan, settings.seed, fitted).items()}
    leaving, coming = leaving_tensors(opened, plan) & old.keys(), {**arriving, **fresh}
    going = {name: part for name, part in old.items() if name in leaving | coming.keys()}
    with ThreadPoolExecutor(2) as pool:  # hashing and copying both leave Python alone while they work
        before, after = pool.submit(_hashes, going), pool.submit(_hashes, coming)
        written = write_kept(opened.source, leaving_tensors(opened, plan), out, copy)
        write_shard(out / TOWER_SHARD, coming)
    new = read_shard(out / TOWER_SHARD)
    check_finite(new, out, whole=True)  # what was a number may be none in the host's precision
    written |= new
    write_index(out, written)

    def change(name: str) -> TensorChange:
        what: Literal["replaced", "new", "dropped"] = (
            "new" if name in fresh else "replaced" if name in arriving else "dropped"
        )
        return TensorChange(
            name=name,
            change=what,
            sha256=after.result().get(name),
            before=before.result().get(name),
            shape=(coming.get(name) or old[name]).shape,
        )

    return [change(name) for name in sorted(leaving | coming.keys())]


def _hashes(parts: Mapping[str, Part]) -> dict[str, str]:
    return {name: sha256_of(part) for name, part in parts.items()}


def leaving_tensors(opened: OpenedHost, plan: Plan) -> set[str]:
    """Tensors of the host that the graft does not keep."""
    renewed = {full_name(opened, tensor) for tensor in plan.new}
    return {*opened.tower.values(), *plan.drop, *(renewed & opened.source.tensors.keys())}


def write_kept(source: Source, leaving: set[str], out: Path, copy: bool) -> dict[str, Stored]:
    """Write all tensors but the `leaving` ones, in shards named like those of the source; an unchanged shard becomes a link."""
    written: dict[str, Stored] = {}
    for shard, kept in kept_by_shard(source, leaving).items():
        target = _free_path(out, shard)
        if is_untouched(shard, kept):
            place(shard, target, copy)
        else:
            write_shard(target, kept)
        written |= read_shard(target)
    return written


def kept_by_shard(source: Source, leaving: set[str]) -> dict[Path, dict[str, Part]]:
    """Group the tensors that stay by the file that holds them."""
    shards: dict[Path, dict[str, Part]] = {}
    for name, part in source.tensors.items():
        if name not in leaving:
            shards.setdefault(part.shard or source.directory / "model-new.safetensors", {})[name] = part
    return dict(sorted(shards.items()))


def is_untouched(shard: Path, kept: Mapping[str, Part]) -> bool:
    """Whether a file keeps all of its tensors under their old names, so that it can be linked."""
    return shard.suffix == ".safetensors" and shard.is_file() and kept == read_shard(shard)


def _free_path(out: Path, shard: Path) -> Path:
    """Path for a shard: its own name, or another where that is taken or would make transformers read this shard alone."""
    own = (
        shard.name != SINGLE and shard.suffix == ".safetensors"
    )  # beside model.safetensors the index would not be read
    name = shard.name if own else f"model-{shard.stem.replace('model', 'host')}.safetensors"
    numbered = (f"model-{i}-{name.removeprefix('model-')}" for i in range(2, 1000))  # shards of several directories
    return next(out / candidate for candidate in (name, *numbered) if not (out / candidate).exists())


def _donor_tensors(opened: OpenedHost, donor: dict[str, Stored], plan: Plan) -> dict[str, Part]:
    """Name the donor's tensors as the host does and give them the old tower's dtype; those that have it are copied as bytes."""
    old = opened.source.tensors[next(iter(opened.tower.values()))]
    prefix = opened.prefix
    if plan.tower is not None:  # only the stock class maps old names such as vision_tower.vision_model.*
        prefix = grafted_prefix(prefix) + "donor."
    tensors: dict[str, Part] = {}
    for name, part in sorted(donor.items()):
        positions = plan.positions if name in POSITION_TABLES else None
        same = positions is None and (part.dtype == old.dtype or not is_float(part))
        tensors[prefix + name] = part if same else Held(_cast(part, old, positions))
    return tensors


def grafted_prefix(prefix: str) -> str:
    """Prefix of tensor names in a tower that `Plan.tower` describes: `prefix`, that of the old tower, cut after `vision_tower.`."""
    return re.sub(r"(vision_tower\.).*", r"\1", prefix)


def _cast(part: Part, old: Part, positions: int | None) -> "Tensor":
    tensor = read_tensor(part)
    if positions is not None:
        tensor = resize_positions(tensor.float(), positions)
    return tensor.to(torch_dtype(old)).contiguous()


def _new_tensors(opened: OpenedHost, plan: Plan, seed: int, fitted: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    if not plan.new:
        return {}
    # here, because torch takes seconds to import
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = opened.source.tensors
    fresh = {}
    for tensor in plan.new:
        name = full_name(opened, tensor)
        values = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator) / tensor.fan_in**0.5
        if tensor.fill is not None:
            values.fill_(tensor.fill)
        values = fitted.get(tensor.name, values)
        fresh[name] = values.to(torch_dtype(tensors.get(name) or tensors[next(iter(opened.tower.values()))]))
    return fresh


def full_name(opened: OpenedHost, tensor: NewTensor) -> str:
    """Find the full name in the files of a new tensor, of which the plan gives only the end."""
    return next((name for name in opened.source.tensors if name.endswith(tensor.name)), tensor.name)
