"""Grafting: write a host's checkpoint with another tower in it, as bytes. `mllm_adapters.graft` holds the record it leaves."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mgll.formats import FormatError
from mllm_adapters.card import write_card
from mllm_adapters.graft import GRAFT, Donor, Graft, TensorChange, WarmStart, check_count, json_files, read_graft
from mllm_adapters.host import GraftSettings, Host, HostError, Json, NewTensor, Plan, Source
from mllm_adapters.surgery import (
    SINGLE,
    Held,
    Part,
    Stored,
    place,
    read_checkpoint,
    read_shard,
    read_tensor,
    sha256_of,
    torch_dtype,
    write_index,
    write_shard,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mgll.tower import TowerHeader

TOWER_SHARD = "model-mgll-tower.safetensors"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")


@dataclass(frozen=True)
class _Anatomy:
    """A host taken apart: its checkpoint, and its tower's tensors by their names in the tower."""

    source: Source
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
    parts: Mapping[str, Path] | None = None,
    warm: Sequence[Path] | None = None,
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
        parts: further checkpoints that the published one leaves out (`Host.parts`).
        warm: unlabelled images from which a linear map of the donor's tokens to the old tower's is fitted
            (`mllm_adapters.warm_graft`).

    Raises:
        FormatError: if checkpoint or tower are damaged or incomplete.
        ImageError: naming images of `warm` that cannot be read.
        HostError: if they do not fit each other or the settings.
    """
    from mgll import tower as tower_file
    from mgll.files import atomic_path, sha256
    from mgll.provenance import provenance

    settings, directory, out = settings or GraftSettings(), Path(source), Path(out)
    settings = settings.model_copy(update={"warm": warm is not None})
    header = tower_file.read_header(encoder)
    anatomy = _take_apart(host, open_source(host, directory, parts))
    _check_out(out, directory)
    plan = plan_graft(host, anatomy.source, header, settings)
    donor = tower_file.read_tower(encoder)
    fitted: dict[str, Tensor] = {}
    start: WarmStart | None = None
    if warm is not None:
        from mllm_adapters.warm_graft import fit

        fitted, start = fit(host, anatomy.source, Path(encoder), plan, warm)

    with atomic_path(out) as temporary:
        temporary.mkdir()
        tensors = _write_weights(anatomy, donor, plan, settings, temporary, copy, fitted)
        write_files(anatomy.source, plan.files, temporary)
        facts = [f"host: {named or directory}", f"donor tower: {encoder}", f"token policy: {settings.tokens}"]
        write_card(temporary, f"{host.title} with another vision tower", [*facts, "everything else: graft.json"])
        same = plan.unchanged_behaviour and all(tensor.sha256 == tensor.before for tensor in tensors)
        record = Graft(
            schema="mgll.graft/1",
            host=host.name,
            source=named or str(directory),
            donor=Donor(path=str(encoder), sha256=sha256(encoder), origin=header.origin),
            settings=settings,
            features=plan.features,
            placeholders=host.placeholders(plan.files),
            tower=plan.tower,
            loads_in="mllm_adapters.load" if plan.tower or ":" in host.model_class else "transformers",
            warm=start,
            connector_needs_training=not same,
            tensors=tuple(tensors),
            files=tuple(sorted(path.name for path in temporary.iterdir())),
            provenance=provenance(),
        )
        (temporary / GRAFT).write_text(record.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return record


@dataclass(frozen=True)
class Rehearsal:
    """What a graft would do.

    Attributes:
        plan: what the host makes of the donor.
        replaced, dropped: numbers of tensors that come from the donor, and of the host's that go and have no successor.
        linked, rewritten, arriving: bytes of shards that stay, of kept tensors in shards that are written anew, and of new tensors.
        connector: parameters of the connector, which fine-tuning trains in full.
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


def rehearse(
    host: Host,
    source: str | os.PathLike[str],
    encoder: str | os.PathLike[str],
    settings: GraftSettings | None = None,
    parts: Mapping[str, Path] | None = None,
) -> Rehearsal:
    """All that `graft` would do, found from headers alone; nothing is written.

    Raises:
        FormatError, HostError: as `graft`.
    """
    from mgll import tower as tower_file

    settings = settings or GraftSettings()
    anatomy = _take_apart(host, open_source(host, Path(source), parts))
    plan = plan_graft(host, anatomy.source, tower_file.read_header(encoder), settings)
    leaving, tensors = _leaving(anatomy, plan), anatomy.source.tensors
    shards = _kept_by_shard(anatomy.source, leaving)
    sizes = {shard: sum(part.nbytes for part in kept.values()) for shard, kept in shards.items()}
    linked = sum(size for shard, size in sizes.items() if _is_untouched(shard, shards[shard]))
    old = tensors[next(iter(anatomy.tower.values()))]
    item = old.nbytes // math.prod(old.shape)
    donor = read_shard(Path(encoder))
    new = {_full_name(anatomy, tensor): math.prod(tensor.shape) for tensor in plan.new}
    own = {name: math.prod(part.shape) for name, part in tensors.items() if name not in leaving}
    inside = [*(part.rpartition(".")[2] for part in host.connector), "bridge"]
    connector = {n: size for n, size in (own | new).items() if any(f".{part}." in f".{n}" for part in inside)}
    layers = [name for name in own if name.endswith(".weight") and _is_adapted(host, name.removesuffix(".weight"))]
    return Rehearsal(
        plan=plan,
        replaced=len(donor),
        dropped=len(leaving - {anatomy.prefix + name for name in donor} - new.keys()),
        linked=linked,
        rewritten=sum(sizes.values()) - linked,
        arriving=(sum(math.prod(part.shape) for part in donor.values()) + sum(new.values())) * item,
        connector=sum(connector.values()),
        adapted=tuple((tensors[name].shape[1], tensors[name].shape[0]) for name in layers),
    )


def _is_adapted(host: Host, module: str) -> bool:
    names = (module, f"model.{module}", module.replace("language_model.model.", "model.language_model."))
    return any(re.fullmatch(host.lora_targets, name) for name in names)


def convert(
    host: Host,
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    copy: bool = False,
    named: str | None = None,
    parts: Mapping[str, Path] | None = None,
) -> Graft:
    """Write to `out` the untouched host in the layout that `mllm_adapters.load` reads: the arm that a graft is compared with.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete.
        HostError: if it is of another family.
    """
    from mgll.files import atomic_path
    from mgll.provenance import provenance

    directory, out = Path(directory), Path(out)
    source = open_source(host, directory, parts)
    _check_out(out, directory)
    count = host.placeholders(source.files)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        written = _write_kept(source, set(), temporary, copy)
        write_index(temporary, written)
        write_files(source, source.files, temporary)
        write_card(temporary, host.title, [f"converted from: {named or directory}"])
        record = Graft(
            schema="mgll.graft/1",
            host=host.name,
            source=named or str(directory),
            donor=None,
            settings=GraftSettings(),
            features=count,
            placeholders=count,
            tower=None,
            loads_in="mllm_adapters.load" if ":" in host.model_class else "transformers",
            connector_needs_training=False,
            tensors=(),
            files=tuple(sorted(path.name for path in temporary.iterdir())),
            provenance=provenance(),
        )
        (temporary / GRAFT).write_text(record.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return record


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
        return read_native(host, directory)
    return host.open(directory, parts) if host.open else read_native(host, directory)


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


def plan_graft(host: Host, source: Source, donor: "TowerHeader", settings: GraftSettings) -> Plan:
    """The host's plan for this donor, checked: what a graft writes, before it is written.

    Raises:
        HostError: if host, donor and settings do not fit each other.
    """
    plan = host.plan(source, donor, settings)
    if plan.tower is not None and host.shim is None:
        raise HostError(
            f"{host.title} cannot take token policy {settings.tokens}; use --tokens native or resize_posemb"
        )
    check_count(plan.features, host.placeholders(plan.files))
    if settings.warm:
        from mllm_adapters.warm_graft import warm_plan

        return warm_plan(host, source, plan, settings)
    return plan


def _take_apart(host: Host, source: Source) -> _Anatomy:
    tower = {name: match for name in source.tensors if (match := re.match(host.tower_keys, name))}
    if not tower:
        raise FormatError(source.directory, None, f"no tensor of a vision tower in it (names like {host.tower}.*)")
    prefixes = {match.group() for match in tower.values()}
    if len(prefixes) > 1:
        raise FormatError(
            source.directory, None, f"the tower's tensors have several prefixes: {', '.join(sorted(prefixes))}"
        )
    names = {name[match.end() :]: name for name, match in tower.items()}
    return _Anatomy(source, names, prefixes.pop())


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
    anatomy: _Anatomy,
    donor: dict[str, Stored],
    plan: Plan,
    settings: GraftSettings,
    out: Path,
    copy: bool,
    fitted: "Mapping[str, Tensor]",
) -> list[TensorChange]:
    """Shards of the graft: linked, rewritten without what goes, and one of their own for what comes."""
    old = anatomy.source.tensors
    arriving = _donor_tensors(anatomy, donor, plan)
    fresh = {name: Held(tensor) for name, tensor in _new_tensors(anatomy, plan, settings.seed, fitted).items()}
    leaving = _leaving(anatomy, plan)
    written = _write_kept(anatomy.source, leaving, out, copy)
    write_shard(out / TOWER_SHARD, {**arriving, **fresh})
    written |= read_shard(out / TOWER_SHARD)
    write_index(out, written)
    coming = {**arriving, **fresh}

    def change(name: str) -> TensorChange:
        what: Literal["replaced", "new", "dropped"] = (
            "new" if name in fresh else "replaced" if name in arriving else "dropped"
        )
        present = coming.get(name)
        before = sha256_of(old[name]) if name in old else None
        return TensorChange(
            name=name,
            change=what,
            sha256=sha256_of(present) if present else None,
            before=before,
            shape=(present or old[name]).shape,
        )

    return [change(name) for name in sorted(leaving | coming.keys())]


def _leaving(anatomy: _Anatomy, plan: Plan) -> set[str]:
    """Tensors of the host that the graft does not keep."""
    renewed = {_full_name(anatomy, tensor) for tensor in plan.new}
    return {*anatomy.tower.values(), *plan.drop, *(renewed & anatomy.source.tensors.keys())}


def _full_name(anatomy: _Anatomy, tensor: NewTensor) -> str:
    return next((name for name in anatomy.source.tensors if name.endswith(tensor.name)), tensor.name)


def _write_kept(source: Source, leaving: set[str], out: Path, copy: bool) -> dict[str, Stored]:
    """Write all tensors but those that leave, in shards of the names they lie in; a shard that stays as it is becomes a link."""
    written: dict[str, Stored] = {}
    for shard, kept in _kept_by_shard(source, leaving).items():
        target = _free_path(out, shard)
        if _is_untouched(shard, kept):
            place(shard, target, copy)
        else:
            write_shard(target, kept)
        written |= read_shard(target)
    return written


def _kept_by_shard(source: Source, leaving: set[str]) -> dict[Path, dict[str, Part]]:
    shards: dict[Path, dict[str, Part]] = {}
    for name, part in source.tensors.items():
        if name not in leaving:
            shards.setdefault(part.shard or source.directory / "model-new.safetensors", {})[name] = part
    return dict(sorted(shards.items()))


def _is_untouched(shard: Path, kept: Mapping[str, Part]) -> bool:
    return shard.suffix == ".safetensors" and shard.is_file() and kept == read_shard(shard)


def _free_path(out: Path, shard: Path) -> Path:
    """Where a shard is written: under its own name, unless transformers would take that for the only one, or it is taken."""
    own = (
        shard.name != SINGLE and shard.suffix == ".safetensors"
    )  # beside model.safetensors the index would not be read
    name = shard.name if own else f"model-{shard.stem.replace('model', 'host')}.safetensors"
    numbered = (f"model-{i}-{name.removeprefix('model-')}" for i in range(2, 1000))  # shards of several directories
    return next(out / candidate for candidate in (name, *numbered) if not (out / candidate).exists())


def _donor_tensors(anatomy: _Anatomy, donor: dict[str, Stored], plan: Plan) -> dict[str, Part]:
    """The donor under the host's names, in the dtype of the tower that goes: bytes of its file where that is its own dtype."""
    old = anatomy.source.tensors[next(iter(anatomy.tower.values()))]
    prefix = anatomy.prefix
    if plan.tower is not None:  # legacy spellings below the tower's own name are the stock class's business
        prefix = shim_prefix(prefix) + "donor."
    tensors: dict[str, Part] = {}
    for name, part in sorted(donor.items()):
        positions = plan.positions if name == "embeddings.position_embedding.weight" else None
        same = part.dtype == old.dtype and positions is None
        tensors[prefix + name] = part if same else Held(_cast(part, old, positions))
    return tensors


def shim_prefix(prefix: str) -> str:
    """What stands before the names of a shim's tensors, where `prefix` stands before those of the tower that goes."""
    return re.sub(r"(vision_tower\.).*", r"\1", prefix)


def _cast(part: Part, old: Part, positions: int | None) -> "Tensor":
    from mllm_adapters.token_policy import resize_positions

    tensor = read_tensor(part)
    if positions is not None:
        tensor = resize_positions(tensor.float(), positions)
    return tensor.to(torch_dtype(old)).contiguous()


def _new_tensors(anatomy: _Anatomy, plan: Plan, seed: int, fitted: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    if not plan.new:
        return {}
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = anatomy.source.tensors
    fresh = {}
    for tensor in plan.new:
        name = _full_name(anatomy, tensor)
        values = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator) / tensor.fan_in**0.5
        if tensor.fill is not None:
            values.fill_(tensor.fill)
        values = fitted.get(tensor.name, values)
        fresh[name] = values.to(torch_dtype(tensors.get(name) or tensors[next(iter(anatomy.tower.values()))]))
    return fresh


def write_files(source: Source, files: dict[str, Json], out: Path) -> None:
    """Everything but weights; config.json last, because nothing is loadable without it."""
    for path in sorted(source.directory.rglob("*")):  # a second tokenizer has a folder of its own
        relative = path.relative_to(source.directory)
        weights = path.suffix in _WEIGHTS or path.name.endswith(".index.json") or path.name == GRAFT
        left = weights or str(relative).startswith(".") or any(path.match(pattern) for pattern in source.leave)
        if path.is_file() and not left and str(relative) not in files:
            (out / relative).parent.mkdir(exist_ok=True, parents=True)
            place(path, out / relative, copy=True)
    for name in sorted(files, key=lambda name: name == "config.json"):
        (out / name).write_text(json.dumps(files[name], indent=2) + "\n", encoding="utf-8")
