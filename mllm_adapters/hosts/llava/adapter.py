"""Folders of LLaVA's own repository that hold a change of a base: a LoRA adapter, or a projector alone.

A LoRA training leaves `adapter_model` (the thin matrices) and `non_lora_trainables.bin` (the projector, whole), a pretraining of
the projector `mm_projector.bin`. The base stays where it is, and each of its tensors is changed when it is written, one at a time.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.deferred import Computed
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint, read_pickle, read_shard, read_tensor, torch_dtype
from mllm_adapters.contract.terms import HostError

if TYPE_CHECKING:
    from torch import Tensor

#: Name of the base's checkpoint for `--part`.
PART = "base"
SETTINGS, BESIDE, PROJECTOR = "adapter_config.json", "non_lora_trainables.bin", "mm_projector.bin"
#: Files of such a folder that say how it was made, not what the merged model is.
LEFT_BEHIND = (SETTINGS, "trainer_state.json", "README.md")
_WRAPPER = r"^(?:base_model\.)?(?:model\.)?(?=model\.|lm_head\.)"
_LORA = re.compile(r"(.*)\.lora_([AB])(?:\.default)?\.weight")
#: Settings of PEFT that make an adapter something else than `base + scale * B @ A` for all of its layers alike.
_OTHER = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication")


def changes_a_base(directory: Path) -> bool:
    """Whether a folder holds no model but the change of one."""
    whole = [*directory.glob("*.index.json"), *(directory / f for f in ("model.safetensors", "pytorch_model.bin"))]
    return any((directory / name).is_file() for name in (SETTINGS, PROJECTOR)) and not any(f.is_file() for f in whole)


def named_base(directory: Path, old: Json) -> str | None:
    """Hub id or folder of the base, as the folder says; None where it says nothing."""
    settings = read_json(directory / SETTINGS) if (directory / SETTINGS).is_file() else {}
    named = settings.get("base_model_name_or_path") or old.get("_name_or_path")
    return str(named) if named else None


def merged(directory: Path, base: Path) -> dict[str, Part]:
    """The tensors of the base with the changes of a folder, by their published names.

    Raises:
        FormatError: if folder or base are damaged or incomplete, or the adapter does not fit the base.
        HostError: if the adapter is of a kind that is not merged here.
    """
    tensors: dict[str, Part] = dict(read_checkpoint(base))
    if not (directory / SETTINGS).is_file():
        return tensors | _whole(directory / PROJECTOR)
    tensors |= _whole(directory / BESIDE)
    scale = _scale(read_json(directory / SETTINGS), directory)
    file = directory / "adapter_model.safetensors"
    thin: Mapping[str, Part] = read_shard(file) if file.is_file() else read_pickle(file.with_suffix(".bin"))
    pairs: dict[str, dict[str, Part]] = {}
    for name, part in thin.items():
        if not (match := _LORA.fullmatch(name)):
            raise FormatError(directory, None, f"its adapter holds {name}, which is no LoRA matrix")
        pairs.setdefault(re.sub(_WRAPPER, "", match[1]) + ".weight", {})[match[2]] = part
    for name, pair in pairs.items():
        _check_pair(name, pair, tensors, directory, base)
        tensors[name] = Computed(
            (tensors[name], pair["A"], pair["B"]), _product(tensors[name], pair["A"], pair["B"], scale)
        )
    return tensors


def _whole(path: Path) -> dict[str, Part]:
    """The tensors that were trained in full."""
    return {re.sub(_WRAPPER, "", name): part for name, part in read_pickle(path).items()}


def _scale(settings: Json, directory: Path) -> float:
    odd = [key for key in _OTHER if settings.get(key)]
    if settings.get("peft_type", "LORA") != "LORA" or odd:
        kind = ", ".join(odd) or f"peft_type {settings['peft_type']}"
        raise HostError(
            f"{directory / SETTINGS} sets {kind}, which is not merged here: merge it with PEFT (merge_and_unload), save the"
            " model with save_pretrained, and give that folder"
        )
    rank = int(settings["r"])
    return float(settings["lora_alpha"]) / (rank**0.5 if settings.get("use_rslora") else rank)


def _check_pair(name: str, pair: Mapping[str, Part], tensors: Mapping[str, Part], directory: Path, base: Path) -> None:
    if name not in tensors:
        raise FormatError(directory, None, f"its adapter changes {name}, which the base {base} does not hold")
    if pair.keys() != {"A", "B"}:
        raise FormatError(directory, None, f"of the adapter's two matrices for {name} one is missing")
    down, up, shape = pair["A"].shape, pair["B"].shape, tensors[name].shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or (up[0], down[1]) != shape:
        raise FormatError(
            directory, None, f"its adapter for {name} is {list(up)} x {list(down)}, the base's is {list(shape)}"
        )


def _product(weight: Part, down: Part, up: Part, scale: float) -> "Callable[[], Tensor]":
    def compute() -> "Tensor":
        one, two, three = (read_tensor(part).float() for part in (weight, up, down))
        return one.addmm_(two, three, alpha=scale).to(torch_dtype(weight))

    return compute
