"""Grafting: write a host's checkpoint with another tower in it, as bytes. `mllm_adapters.graft` holds the record it leaves."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mgll.formats import FormatError
from mllm_adapters.card import write_card
from mllm_adapters.graft import GRAFT, Donor, Graft, TensorChange, check_count, json_files, read_graft
from mllm_adapters.host import GraftSettings, Host, HostError, Json, NewTensor, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from mllm_adapters.surgery import Stored

TOWER_SHARD = "model-mgll-tower.safetensors"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")


@dataclass(frozen=True)
class _Anatomy:
    """A host directory taken apart: its JSON files and its tensors, those of the tower by their `CLIPVisionModel` names."""

    directory: Path
    files: dict[str, Json]
    tensors: "dict[str, Stored]"
    tower: dict[str, str]
    prefix: str


def graft(
    host: Host,
    source: str | os.PathLike[str],
    encoder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: GraftSettings | None = None,
    copy: bool = False,
    named: str | None = None,
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
        named: how the user named the checkpoint, for the record; `source` when None.

    Raises:
        FormatError: if checkpoint or tower are damaged or incomplete.
        HostError: if they do not fit each other or the settings.
    """
    from mgll import tower as tower_file
    from mgll.files import atomic_path, sha256
    from mgll.provenance import provenance

    settings, source, out = settings or GraftSettings(), Path(source), Path(out)
    header = tower_file.read_header(encoder)
    anatomy = _take_apart(host, source)
    _check_out(out, source)
    plan = host.plan(anatomy.files, {name: stored.shape for name, stored in anatomy.tensors.items()}, header, settings)
    if plan.resize_features and host.resize is None:
        raise HostError(f"{host.title} cannot resize features; use --tokens native or resize_posemb")
    if plan.pooled and host.pool is None:
        raise HostError(f"{host.title} cannot take one pooled token; use --tokens native")
    check_count(plan.features, host.placeholders(plan.files))
    donor = tower_file.read_tensors(encoder)

    with atomic_path(out) as temporary:
        temporary.mkdir()
        tensors = _write_weights(anatomy, donor, plan, settings, temporary, copy)
        _write_files(anatomy, plan, temporary, copy)
        facts = [f"host: {named or source}", f"donor tower: {encoder}", f"token policy: {settings.tokens}"]
        write_card(temporary, f"{host.title} with another vision tower", [*facts, "everything else: graft.json"])
        same = plan.unchanged_behaviour and all(tensor.sha256 == tensor.before for tensor in tensors)
        record = Graft(
            schema="mgll.graft/1",
            host=host.name,
            source=named or str(source),
            donor=Donor(path=str(encoder), sha256=sha256(encoder), origin=header.origin),
            settings=settings,
            features=plan.features,
            placeholders=host.placeholders(plan.files),
            resize_to=plan.grid if plan.resize_features else None,
            pooled=plan.pooled,
            loads_in="mllm_adapters.load" if plan.resize_features or plan.pooled else "transformers",
            connector_needs_training=not same,
            tensors=tuple(tensors),
            files=tuple(sorted(path.name for path in temporary.iterdir())),
            provenance=provenance(),
        )
        (temporary / GRAFT).write_text(record.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return record


def _take_apart(host: Host, directory: Path) -> _Anatomy:
    from mllm_adapters.surgery import read_checkpoint

    files = json_files(directory)
    found = files["config.json"].get("model_type")
    if found != host.model_type:
        raise HostError(
            f"{directory} is a {found!r} checkpoint, {host.title} needs {host.model_type!r}; choose another --model"
        )
    if (directory / GRAFT).is_file() and read_graft(directory).loads_in != "transformers":
        raise HostError(
            f"{directory} is itself a graft that changes features while running; graft onto its host instead"
        )
    tensors = read_checkpoint(directory)
    tower = {name: match for name in tensors if (match := re.match(host.tower_keys, name))}
    if not tower:
        raise FormatError(directory, None, f"no tensor of a vision tower in it (names like {host.tower}.*)")
    prefixes = {match.group() for match in tower.values()}
    if len(prefixes) > 1:
        raise FormatError(directory, None, f"the tower's tensors have several prefixes: {', '.join(sorted(prefixes))}")
    names = {name[match.end() :]: name for name, match in tower.items()}
    return _Anatomy(directory, files, tensors, names, prefixes.pop())


def _check_out(out: Path, source: Path) -> None:
    if out.resolve() == source.resolve() or source.resolve().is_relative_to(out.resolve()):
        raise HostError(
            f"--out {out} is, or holds, the checkpoint itself, which is never changed; choose another folder"
        )
    if out.is_dir() and any(out.iterdir()):
        known = {*read_graft(out).files, GRAFT} if (out / GRAFT).is_file() else set()
        foreign = sorted(path.name for path in out.iterdir() if path.name not in known)
        if foreign:
            raise HostError(
                f"--out {out} holds files that are no graft's ({', '.join(foreign[:4])}); choose another folder"
            )
    elif out.exists() and not out.is_dir():
        raise HostError(f"--out {out} is a file")


def _write_weights(
    anatomy: _Anatomy, donor: "dict[str, Tensor]", plan: Plan, settings: GraftSettings, out: Path, copy: bool
) -> list[TensorChange]:
    """Shards of the graft: linked, rewritten without what goes, and one of their own for what comes."""
    from mllm_adapters.surgery import SINGLE, Stored, place, read_shard, write_index, write_shard

    old = anatomy.tensors
    arriving = _donor_tensors(anatomy, donor, plan)
    fresh = _new_tensors(anatomy, plan, settings.seed)
    leaving = set(anatomy.tower.values()) | fresh.keys()
    written: dict[str, Stored] = {}
    for shard in sorted({stored.shard for stored in old.values()}):
        held: dict[str, Stored] = {name: stored for name, stored in old.items() if stored.shard == shard}
        kept: dict[str, Stored | Tensor] = {name: stored for name, stored in held.items() if name not in leaving}
        if not kept:
            continue
        # beside a file of transformers' single-file name, the index would not be read
        target = out / ("model-host.safetensors" if shard.name == SINGLE else shard.name)
        if len(kept) == len(held):
            place(shard, target, copy)
        else:
            write_shard(target, kept)
        written |= read_shard(target)
    hashes = write_shard(out / TOWER_SHARD, {**arriving, **fresh})
    written |= read_shard(out / TOWER_SHARD)
    write_index(out, written)

    def change(name: str) -> TensorChange:
        before = old[name].sha256() if name in old else None
        what: Literal["replaced", "new", "dropped"] = (
            "new" if name in fresh else "replaced" if name in hashes else "dropped"
        )
        return TensorChange(
            name=name, change=what, sha256=hashes.get(name), before=before, shape=(written.get(name) or old[name]).shape
        )

    return [change(name) for name in sorted(leaving | hashes.keys())]


def _donor_tensors(anatomy: _Anatomy, donor: "dict[str, Tensor]", plan: Plan) -> "dict[str, Tensor]":
    """The donor under the host's names, in the dtype of the tower that goes."""
    from mllm_adapters.token_policy import resize_positions

    dtype = anatomy.tensors[next(iter(anatomy.tower.values()))].torch_dtype
    tensors = dict(donor)
    if plan.resize_positions:
        positions = "embeddings.position_embedding.weight"
        tensors[positions] = resize_positions(tensors[positions].float(), plan.grid)
    return {anatomy.prefix + name: tensor.to(dtype).contiguous() for name, tensor in sorted(tensors.items())}


def _new_tensors(anatomy: _Anatomy, plan: Plan, seed: int) -> "dict[str, Tensor]":
    import torch

    generator = torch.Generator().manual_seed(seed)
    fresh = {}
    for tensor in plan.new:
        name = _full_name(anatomy.tensors, tensor)
        values = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator) / tensor.fan_in**0.5
        fresh[name] = values.to(anatomy.tensors[name].torch_dtype)
    return fresh


def _full_name(names: Iterable[str], tensor: NewTensor) -> str:
    return next(name for name in names if name.endswith(tensor.suffix))


def _write_files(anatomy: _Anatomy, plan: Plan, out: Path, copy: bool) -> None:
    """Everything but weights; config.json last, because nothing is loadable without it."""
    from mllm_adapters.surgery import INDEX, place

    for path in sorted(anatomy.directory.iterdir()):
        weights = path.suffix in _WEIGHTS or path.name.endswith(".index.json") or path.name in (INDEX, GRAFT)
        if path.is_file() and not weights and path.name not in plan.files:
            place(path, out / path.name, copy=True)
    for name in sorted(plan.files, key=lambda name: name == "config.json"):
        (out / name).write_text(json.dumps(plan.files[name], indent=2) + "\n", encoding="utf-8")
