"""Load a host, a graft or a fine-tuned LoRA directory; anything missing, surplus or misshapen stops with its name."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.formats import FormatError
from mgll.kept_hashes import kept_sha256
from mgll.weights.model_folder import check_entries, read_json
from mllm_adapters.checkpoints.processor_files import check_processor_files
from mllm_adapters.checkpoints.tensors import check_finite, read_checkpoint
from mllm_adapters.contract.finetune_record import FINETUNE, FinetuneRecord, read_finetune
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.terms import HostError, fields_of
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.registry import get_host, host_of
from mllm_adapters.loading.attention import told_attention
from mllm_adapters.loading.classes import model_class
from mllm_adapters.loading.device_map import refuse_parts_away, told_places
from mllm_adapters.loading.precision import settle_dtype
from mllm_adapters.loading.quantisation import keep_gradients, quantisation, refuse_quantisation
from mllm_adapters.settings import DeviceMap, Quantisation

if TYPE_CHECKING:
    import torch

#: Bytes at a multiple of which torch allocates memory on a CPU.
ALIGNED = 64


def load(
    directory: str | os.PathLike[str],
    device: "str | torch.device" = "cpu",
    dtype: "str | torch.dtype" = "auto",
    follow_links: bool = False,
    verify: bool = False,
    quantize: Quantisation = "no",
    device_map: DeviceMap = None,
    tuned: bool = False,
) -> LoadedHost:
    """Load a host, a graft, or a directory that `mllm_adapters.finetuning.finetune` wrote.

    Args:
        directory: the model's folder.
        device: where to put it.
        dtype: dtype of the weights; `auto` goes by checkpoint and device (`mllm_adapters.loading.precision.settle_dtype`).
        follow_links: open files to which symbolic links in the directory lead, even outside of it.
        verify: look for NaN and infinity in every byte of the weights, not only in samples of large tensors.
        quantize: load the language model in 4 bits (`nf4`) or 8 (`int8`), as QLoRA does.
        device_map: `auto` spreads a model that is larger than one card over all cards, and over main memory and disk where these
            are too few; a mapping of modules' names to devices does so by hand. None: everything on `device`.
        tuned: whether the model is going to be trained, by which `auto` goes too.

    Raises:
        FormatError: if the directory is incomplete, its tensors are not exactly those of the model, some are no numbers, or links
            lead out of it.
        HostError: if the model's family is not known.
        ValueError: if there is no such dtype, or the weights cannot be quantised here.
    """
    directory = Path(directory)
    check_model(directory)
    # here, because torch takes seconds to import
    from mllm_adapters.loading.empty_model import empty_model

    if (directory / FINETUNE).is_file():
        record = read_finetune(directory)
        base = _base_of(directory, record, follow_links)
        loaded = load(base, device, dtype, follow_links, verify, quantize, device_map, tuned)
        return _with_trained(directory, record, loaded)
    check_entries(directory, follow_links)
    config = read_json(directory / "config.json")
    graft = read_graft(directory) if (directory / GRAFT).is_file() else None
    host, tensors, kind = host_in(directory), read_checkpoint(directory), str(device).partition(":")[0]
    check_processor_files(directory, host.checkpoint)
    settled, note = settle_dtype(dtype, tensors, device, tuned)
    refuse_quantisation(quantize, kind)
    tower = graft.tower if graft else None
    empty = empty_model(
        host, directory, config, tensors, tower
    )  # before memory is spent on a model that it does not fill
    check_finite(tensors, directory, verify)
    bits = quantisation(quantize, host, empty, settled)
    more: dict[str, Any] = {"quantization_config": bits} if bits else {}
    if device_map or bits or kind != "cpu":
        # straight to a device: converted on the way through main memory, whole models would lie there once for each process
        more["device_map"] = device_map or {"": device}
    model = _read(host, directory, tower, {"dtype": settled, **more})
    if bits:
        keep_gradients(model)
    if tuned:
        refuse_parts_away(model)
    with fields_of(directory):
        processor = host.processor(directory)
    if not bits:
        lay_out_alike(model)
    notes = "; ".join(filter(None, (note, told_places(model), told_attention(model))))
    return LoadedHost(model.eval(), processor, host, directory, settled, notes)


def check_model(directory: str | os.PathLike[str]) -> None:
    """Refuse what is no folder of a model by its configuration, before anything that takes time.

    Raises:
        FormatError: if it is a file, an unfinished fine-tuning, or has no readable configuration.
        HostError: if the family is not known.
    """
    directory = Path(directory)
    if directory.is_file():
        raise FormatError(directory, None, "this is a file; name the folder that it lies in")
    if (directory / FINETUNE).is_file():
        return
    config = directory / "config.json"
    unfinished = (directory / "adapter_config.json").is_file() or (directory / "checkpoints").is_dir()
    if config.exists() and not config.is_file():
        check_entries(directory)  # a pipe, say, which is named and never opened
    if config.is_file() or not unfinished:
        host_in(directory)  # says what to type for a layout that has to be converted first
    if unfinished:
        raise FormatError(
            directory, None, f"no {FINETUNE} in it: an unfinished fine-tune; run the same command again to resume"
        )


def host_in(directory: str | os.PathLike[str]) -> Host:
    """The family of the host or graft in a directory, of which only the configuration is read.

    Raises:
        FormatError: if there is no readable configuration.
        HostError: if the family is not known.
    """
    directory = Path(directory)
    with fields_of(directory):
        if (directory / GRAFT).is_file():
            return get_host(read_graft(directory).host)
        return host_of(read_json(directory / "config.json"))


def lay_out_alike(model: Any) -> None:
    """Move weights that lie on the CPU to where an allocator puts them, in place.

    They lie in the mapped file, at whatever byte its header ends, and with the byte changes the order in which a CPU sums: two
    files with the same weights would give other roundings, and a fine-tuning turns these into other answers.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.data_ptr() % ALIGNED:
            parameter.data = parameter.data.clone()


def shard_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of each weight file by name: what identifies a model's weights."""
    return {shard.name: kept_sha256(shard) for shard in shards_of(directory)}


def shards_of(directory: Path) -> list[Path]:
    """The weight files of a model, in the order of their names."""
    return sorted({part.shard for part in read_checkpoint(directory).values() if part.shard})


def _read(host: Host, directory: Path, tower: TowerSpec | None, how: Mapping[str, Any]) -> Any:
    """Let transformers read the weights, and make sure that it used all of them."""
    # here, because torch takes seconds to import
    from mgll.tower.model import UNREADABLE, said_by
    from mllm_adapters.loading.empty_model import check_loaded

    try:
        model, info = model_class(host, tower).from_pretrained(
            directory, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **how
        )
    except UNREADABLE as error:
        raise FormatError(directory, None, f"{host.model_class} cannot be loaded from it: {said_by(error)}") from error
    check_loaded(host, directory, info)
    return model


def _base_of(directory: Path, record: FinetuneRecord, follow_links: bool) -> Path:
    """The base of a fine-tuned directory, which has the weights that it was trained on."""
    check_entries(directory, follow_links)
    base = directory / record.base
    if not base.is_dir():
        raise FormatError(
            directory / FINETUNE, None, f"its base {base.resolve()} is not there; put it back or edit `base`"
        )
    found = shard_hashes(base)
    if found != record.base_sha256:
        odd = sorted(
            name for name in found.keys() | record.base_sha256.keys() if found.get(name) != record.base_sha256.get(name)
        )
        raise FormatError(
            directory, None, f"its base {base.resolve()} has other weights than it was trained on: {', '.join(odd[:6])}"
        )
    return base


def _with_trained(directory: Path, record: FinetuneRecord, loaded: LoadedHost) -> LoadedHost:
    """A loaded base with what a fine-tuned directory holds."""
    from mllm_adapters.loading.lora import load_trained

    if loaded.host.name != record.host:
        raise HostError(f"{directory} was trained on {record.host}, its base is {loaded.host.name}")
    refuse_parts_away(loaded.model)
    load_trained(loaded.model, loaded.host, directory, record.run)
    return replace(loaded, model=loaded.model.eval(), directory=directory)
