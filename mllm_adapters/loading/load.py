"""Load a host, a graft or a fine-tuned LoRA directory; anything missing, surplus or misshapen stops with its name."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.files import sha256
from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.finetune_record import FINETUNE, read_finetune
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.terms import HostError
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.registry import get_host, host_of

if TYPE_CHECKING:
    import torch


def load(
    directory: str | os.PathLike[str], device: "str | torch.device" = "cpu", dtype: "str | torch.dtype" = "auto"
) -> LoadedHost:
    """Load a host, a graft, or a directory that `mllm_adapters.finetuning.finetune` wrote.

    Args:
        directory: the model's folder.
        device: where to put it.
        dtype: dtype of the weights; `auto` keeps the checkpoint's.

    Raises:
        FormatError: if the directory is incomplete, or its tensors are not exactly those of the model.
        HostError: if the model's family is not known.
    """
    directory = Path(directory)
    if (directory / FINETUNE).is_file():
        return _load_finetuned(directory, device, dtype)
    if (directory / "adapter_config.json").is_file() or (directory / "checkpoints").is_dir():
        raise FormatError(
            directory, None, f"no {FINETUNE} in it: an unfinished fine-tune; run the same command again to resume"
        )
    config = read_json(directory / "config.json")
    graft = read_graft(directory) if (directory / GRAFT).is_file() else None
    host = get_host(graft.host) if graft else host_of(config)
    read_checkpoint(directory)  # says what is wrong in better words than a failing load
    model = _load_exactly(host, directory, dtype, graft.tower if graft else None)
    return LoadedHost(model.to(device).eval(), host.processor(directory), host, directory)


def model_class(host: Host, tower: TowerSpec | None = None) -> Any:
    """The class of a host's models; for a tower that it cannot hold, a subclass that takes the module of `Host.build_tower`."""
    # here, because torch takes seconds to import
    import transformers

    module, _, name = host.model_class.rpartition(":")
    stock = getattr(import_module(module) if module else transformers, name)
    if tower is None:
        return stock

    def build(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        stock.__init__(self, config, *arguments, **options)
        self.set_submodule(host.tower, host.build_tower(tower, config))

    # transformers finds conversions of old tensor names by the class's name, so it stays the stock one
    return type(stock.__name__, (stock,), {"__init__": build, "__module__": stock.__module__})


def shard_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of each weight file by name: what identifies a model's weights."""
    shards = sorted({part.shard for part in read_checkpoint(directory).values() if part.shard})
    return {shard.name: sha256(shard) for shard in shards}


def _load_exactly(host: Host, directory: Path, dtype: Any, tower: TowerSpec | None) -> Any:
    try:
        model, info = model_class(host, tower).from_pretrained(
            directory, dtype=dtype, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise FormatError(directory, None, f"{host.model_class} cannot be loaded from it: {error}") from error
    problems = {what: sorted(map(str, names)) for what, names in info.items() if names}
    if problems:
        said = "; ".join(f"{what}: {', '.join(names[:6])}" for what, names in problems.items())
        raise FormatError(directory, None, f"the weights are not exactly those of {host.model_class}: {said}")
    return model


def _load_finetuned(directory: Path, device: Any, dtype: Any) -> LoadedHost:
    from mllm_adapters.loading.lora import load_trained

    record = read_finetune(directory)
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
    loaded = load(base, device, dtype)
    if loaded.host.name != record.host:
        raise HostError(f"{directory} was trained on {record.host}, its base is {loaded.host.name}")
    load_trained(loaded.model, loaded.host, directory)
    return LoadedHost(loaded.model.to(device).eval(), loaded.processor, loaded.host, directory)
