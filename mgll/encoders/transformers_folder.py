"""The vision model in a local folder of transformers."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_MAPPING, AutoConfig, PreTrainedModel

from mgll.formats import FormatError
from mgll.tower.model import PLAIN_VITS, UNREADABLE, build_options, said_by
from mgll.weights.finite import emptied
from mgll.weights.model_folder import check_entries, indexed_files, read_json
from mgll.weights.reading import check_values
from mgll.weights.stored import read_stored

#: Tensors beside the vision tower: the text side of a CLIP, and what a task put on top.
_ELSEWHERE = (
    r"(?:text_model|text(?:_filip)?_projection|visual_projection|logit_scale(?:_\w+)?|logit_bias"
    r"|.*classifier|pooler|decoder)\b.*"
)


def read_transformers(folder: Path) -> PreTrainedModel:
    """The folder's model, or the image side of its CLIP or SigLIP, in float32.

    Raises:
        FormatError: if the folder holds no model, or its tensors are not exactly those of the vision model.
        ValueError: if the model is of a kind that a tower cannot be.
    """
    check_model_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise FormatError(folder, None, f"no configuration that transformers knows: {said_by(error)}") from None
    config = getattr(config, "vision_config", config)
    if config.model_type == "siglip2_vision_model":
        raise ValueError(
            f"{folder} holds a SigLIP 2 of the NaFlex kind, whose images have no fixed size; take one of fixed resolution, such as"
            " google/siglip2-so400m-patch14-384"
        )
    if config.model_type not in PLAIN_VITS:
        raise ValueError(
            f"{folder} holds a {config.model_type!r}; of transformers' own models a tower can be {', '.join(PLAIN_VITS)}."
            " Many others are in timm: encoder timm:NAME"
        )
    kind: Any = MODEL_MAPPING[type(config)]
    options = {"config": config, "local_files_only": True, "output_loading_info": True, "dtype": torch.float32}
    try:
        model, said = kind.from_pretrained(
            folder, ignore_mismatched_sizes=True, **options, **build_options(config.model_type)
        )
    except UNREADABLE as error:
        raise FormatError(folder, None, f"its weights cannot be read: {said_by(error)}") from None
    left = {name for name in said.pop("unexpected_keys") if not re.fullmatch(_ELSEWHERE, name)}
    wrong = misshapen(said.pop("mismatched_keys"))
    found = [*said.items(), ("unexpected_keys", left), ("misshapen", wrong)]
    problems = {what: sorted(map(str, names)) for what, names in found if names}
    if problems:
        listed = "; ".join(f"{what}: {', '.join(names[:6])}" for what, names in problems.items())
        raise FormatError(folder, None, f"its weights are not exactly those of {kind.__name__}: {listed}")
    check_values(folder, model.state_dict())
    return model


def check_model_folder(folder: Path) -> None:
    """Check what transformers will read of a folder: JSON, names in its index, headers of its safetensors files.

    Raises:
        FormatError: if there is no config.json, or a file is not what it should be.
    """
    if not (folder / "config.json").is_file():
        raise FormatError(folder, None, "no config.json in it: not a model folder of transformers")
    check_entries(folder, follow_links=True)
    read_json(folder / "config.json")
    for index in folder.glob("*.index.json"):
        indexed_files(index)
    for file in folder.glob("*.safetensors"):
        if empty := [name for name, stored in read_stored(file)[0].items() if not stored.nbytes]:
            raise FormatError(file, None, emptied(empty))


def misshapen(mismatched: Iterable[tuple[str, Iterable[int], Iterable[int]]]) -> list[str]:
    """A phrase for each tensor that has another shape in the file than the configuration gives it, sorted."""
    return sorted(f"{name} is {(*there,)}, its config.json says {(*wanted,)}" for name, there, wanted in mismatched)
