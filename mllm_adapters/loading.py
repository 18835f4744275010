"""Load a host, a graft or a fine-tuned LoRA directory; anything missing, surplus or misshapen stops with its name."""

import json
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from mgll.formats import FormatError, Row
from mllm_adapters.host import Host, HostError
from mllm_adapters.registry import get_host, host_of

if TYPE_CHECKING:
    import torch

    from mllm_adapters.tower_spec import TowerSpec

FINETUNE = "finetune.json"


class FinetuneRecord(Row):
    """What a fine-tuned directory says about itself, in `finetune.json`; written last, so its presence means a finished run.

    Attributes:
        schema_: format and version (`schema` in the file).
        host: name of the host.
        base: the directory that was fine-tuned, relative to this one.
        base_sha256: of the base's shards by name; another base is refused.
        settings: of the run, resolved.
        questions: how many there were, and the SHA-256 over them and their images.
        trained: parameters trained in the language model and in the connector.
        supervised: token ids of the letters A to D that were trained.
        provenance: versions and commit.
    """

    schema_: Literal["mgll.finetune/1"] = Field(alias="schema")
    host: str
    base: str
    base_sha256: dict[str, str]
    settings: dict[str, Any]
    questions: dict[str, Any]
    trained: dict[str, int]
    supervised: tuple[int, ...]
    provenance: dict[str, str]


@dataclass(frozen=True)
class LoadedHost:
    """A model with all that is needed to ask it.

    Attributes:
        model: an instance of the host's transformers class in evaluation mode (LoRA layers in place where there are any).
        processor: of the same directory.
        host: the family's spec.
        directory: what was loaded.
    """

    model: Any
    processor: Any
    host: Host
    directory: Path


def load(
    directory: str | os.PathLike[str], device: "str | torch.device" = "cpu", dtype: "str | torch.dtype" = "auto"
) -> LoadedHost:
    """Load a host, a graft, or a directory that `mllm_adapters.finetune` wrote.

    Args:
        directory: the model's folder.
        device: where to put it.
        dtype: as in `from_pretrained`; `auto` keeps that of the checkpoint.

    Raises:
        FormatError: if the directory is incomplete, or its tensors are not exactly those of the model.
        HostError: if its family is not known.
    """
    directory = Path(directory)
    if (directory / FINETUNE).is_file():
        return _load_finetuned(directory, device, dtype)
    if (directory / "adapter_config.json").is_file() or (directory / "checkpoints").is_dir():
        raise FormatError(
            directory, None, f"no {FINETUNE} in it: an unfinished fine-tune; run the same command again to resume"
        )
    from mllm_adapters.graft import GRAFT, read_graft
    from mllm_adapters.surgery import read_checkpoint

    config = read_json(directory / "config.json")
    graft = read_graft(directory) if (directory / GRAFT).is_file() else None
    host = get_host(graft.host) if graft else host_of(config)
    read_checkpoint(directory)  # says what is wrong in better words than a failing load
    model = _load_exactly(host, directory, dtype, graft.tower if graft else None)
    return LoadedHost(model.to(device).eval(), load_processor(host, directory), host, directory)


def load_processor(host: Host, directory: Path) -> Any:
    """The processor of a host's directory."""
    from transformers import AutoProcessor

    return host.processor(directory) if host.processor else AutoProcessor.from_pretrained(directory)


def model_class(host: Host, tower: "TowerSpec | None" = None) -> Any:
    """The class of a host's models; with a tower that it cannot hold, a subclass that puts `Host.shim`'s module in its place."""
    import transformers

    module, _, name = host.model_class.rpartition(":")
    stock = getattr(import_module(module) if module else transformers, name)
    if tower is None:
        return stock
    shim = host.shim
    assert shim is not None, f"{host.title} has no shim"

    def build(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        stock.__init__(self, config, *arguments, **options)
        self.set_submodule(host.tower, shim(tower, config))

    # transformers finds conversions of old tensor names by the class's name, so it stays the stock one
    return type(stock.__name__, (stock,), {"__init__": build, "__module__": stock.__module__})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FormatError: if there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise FormatError(path.parent, None, f"no {path.name} in it: not a model directory")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(path, None, f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise FormatError(path, None, "not a JSON object")
    return content


def read_finetune(directory: Path) -> FinetuneRecord:
    """The record of a fine-tuned directory.

    Raises:
        FormatError: if it is missing or not of this schema.
    """
    try:
        return FinetuneRecord.model_validate(read_json(directory / FINETUNE))
    except ValidationError as error:
        raise FormatError(directory / FINETUNE, None, str(error)) from None


def shard_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of each weight file by name: what identifies a model's weights."""
    from mgll.files import sha256
    from mllm_adapters.surgery import read_checkpoint

    shards = sorted({part.shard for part in read_checkpoint(directory).values() if part.shard})
    return {shard.name: sha256(shard) for shard in shards}


def _load_exactly(host: Host, directory: Path, dtype: Any, tower: "TowerSpec | None") -> Any:
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
    from mllm_adapters.lora import load_trained

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
