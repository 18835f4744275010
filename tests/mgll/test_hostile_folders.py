"""Folders of transformers that lie about themselves, as image encoder, as donor and as text encoder: one line, and no traceback."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published import HF_VIT
from safetensors.torch import load_file, save_file
from tiny_text_models import bert
from transformers import Dinov2Config, Dinov2Model

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.published.conversion import convert

DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"


def image_side(folder: Path) -> Callable[[], object]:
    Dinov2Model(Dinov2Config(**HF_VIT)).save_pretrained(folder)
    return lambda: vision_encoder(f"hf:{folder}", 32)


def donor(folder: Path) -> Callable[[], object]:
    Dinov2Model(Dinov2Config(**HF_VIT)).save_pretrained(folder)
    rule: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "crop"}
    return lambda: convert(folder, "rad-dino", folder.parent / "tower.ckpt", **rule)


def text_side(folder: Path) -> Callable[[], object]:
    bert(folder)
    return lambda: TextEncoder(str(folder))


SIDES = pytest.mark.parametrize("made", [image_side, donor, text_side])


def refused(read: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        read()
    assert "\n" not in str(error.value)


@SIDES
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_attention_heads": 0}, "."),
        ({"num_attention_heads": 7}, "."),
        ({"num_attention_heads": "two"}, "num_attention_heads"),
        ({"hidden_size": -32}, "."),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_act": "evil"}, "evil"),
        ({"hidden_act": 3}, "."),
        ({"num_hidden_layers": 1}, "."),
        ({"layer_norm_eps": float("nan")}, "NaN"),
        ({"model_type": None}, "."),
        ({"model_type": [1]}, "."),
    ],
)
def test_a_configuration_of_which_no_model_can_be_built(
    made: Callable[[Path], Callable[[], object]], change: dict[str, Any], match: str, tmp_path: Path
) -> None:
    read, path = made(tmp_path / "folder"), tmp_path / "folder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if made is text_side and "num_hidden_layers" in change:
        read()  # a shorter BERT is one
        return
    refused(read, match)


@SIDES
@pytest.mark.parametrize("text", [DEEP, "[]", "{", "\xff"])
def test_a_config_json_that_is_none(made: Callable[[Path], Callable[[], object]], text: str, tmp_path: Path) -> None:
    read = made(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text(text, encoding="latin-1")
    refused(read, r"config\.json: not ")


@SIDES
def test_links_out_of_the_folder_are_named_and_pipes_are_never_opened(
    made: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    read, path = made(tmp_path / "folder"), tmp_path / "folder" / "model.safetensors"
    path.rename(tmp_path / "elsewhere.safetensors")
    path.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.warns(UserWarning, match=r"1 links that lead out of it are followed: model\.safetensors -> "):
        read()
    for name in ("model.safetensors", "tokenizer.json", "preprocessor_config.json"):
        (tmp_path / "folder" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / "folder" / name)
        refused(read, f"neither a file nor a folder: {name}")
        (tmp_path / "folder" / name).unlink()


@SIDES
def test_weights_that_are_no_numbers_or_lie_elsewhere(
    made: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    read, path = made(tmp_path / "folder"), tmp_path / "folder" / "model.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("attention.output.dense.weight"))
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, path, {"format": "pt"})
    refused(read, "NaN or infinity in")
    save_file(tensors | {name: torch.empty(0)}, path, {"format": "pt"})
    refused(read, "ZeRO-3")
    path.write_bytes(whole + b"tail")
    refused(read, "cut short, or longer")
    path.rename(tmp_path / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "../elsewhere.safetensors")}
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(read, "names files outside of its folder")
