"""Load a host, a graft or a fine-tuned LoRA directory; anything missing, surplus or misshapen stops with its name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.files import sha256
from mgll.formats import FormatError
from mgll.weights.model_folder import check_entries, read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import check_finite, read_checkpoint
from mllm_adapters.contract.finetune_record import FINETUNE, read_finetune
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.terms import HostError, fields_of
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.registry import get_host, host_of
from mllm_adapters.loading.classes import model_class
from mllm_adapters.loading.quantisation import quantisation

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
    quantize: str = "no",
) -> LoadedHost:
    """Load a host, a graft, or a directory that `mllm_adapters.finetuning.finetune` wrote.

    Args:
        directory: the model's folder.
        device: where to put it.
        dtype: dtype of the weights; `auto` keeps the checkpoint's.
        follow_links: open files to which symbolic links in the directory lead, even outside of it.
        verify: look for NaN and infinity in every byte of the weights, not only in samples of large tensors.
        quantize: load the language model of a host or graft in 4 bits (`nf4`) or 8 (`int8`).

    Raises:
        FormatError: if the directory is incomplete, its tensors are not exactly those of the model, some are no numbers, or links
            lead out of it.
        HostError: if the model's family is not known.
    """
    directory = Path(directory)
    if (directory / FINETUNE).is_file():
        return _load_finetuned(directory, device, dtype, follow_links, verify)
    if (directory / "config.json").is_file():
        host_in(directory)  # says what to type for a layout that has to be converted first
    if (directory / "adapter_config.json").is_file() or (directory / "checkpoints").is_dir():
        raise FormatError(
            directory, None, f"no {FINETUNE} in it: an unfinished fine-tune; run the same command again to resume"
        )
    check_entries(directory, follow_links)
    config = read_json(directory / "config.json")
    graft = read_graft(directory) if (directory / GRAFT).is_file() else None
    host = host_in(directory)
    bits = quantisation(quantize, host)
    more = {"quantization_config": bits, "device_map": {"": device}} if bits else {}
    model = _load_exactly(host, directory, config, dtype, graft.tower if graft else None, verify, more)
    with fields_of(directory):
        processor = host.processor(directory)
    if not bits:
        model = model.to(device)
        lay_out_alike(model)
    return LoadedHost(model.eval(), processor, host, directory)


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
    shards = sorted({part.shard for part in read_checkpoint(directory).values() if part.shard})
    return {shard.name: sha256(shard) for shard in shards}


def _load_exactly(
    host: Host,
    directory: Path,
    config: Json,
    dtype: Any,
    tower: TowerSpec | None,
    verify: bool,
    more: Mapping[str, Any],
) -> Any:
    # here, because torch takes seconds to import
    from mgll.tower.model import UNREADABLE, said_by
    from mllm_adapters.loading.empty_model import check_loaded, empty_model

    tensors = read_checkpoint(directory)
    empty_model(host, directory, config, tensors, tower)  # before memory is spent on a model that it does not fill
    check_finite(tensors, directory, verify)
    try:
        model, info = model_class(host, tower).from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
        )
    except UNREADABLE as error:
        raise FormatError(directory, None, f"{host.model_class} cannot be loaded from it: {said_by(error)}") from error
    check_loaded(host, directory, info)
    return model


def _load_finetuned(directory: Path, device: Any, dtype: Any, follow_links: bool, verify: bool) -> LoadedHost:
    from mllm_adapters.loading.lora import load_trained

    record = read_finetune(directory)
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
    loaded = load(base, device, dtype, follow_links, verify)
    if loaded.host.name != record.host:
        raise HostError(f"{directory} was trained on {record.host}, its base is {loaded.host.name}")
    load_trained(loaded.model, loaded.host, directory, record.run)
    return LoadedHost(loaded.model.to(device).eval(), loaded.processor, loaded.host, directory)
