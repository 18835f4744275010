"""Tower files whose header lies: refused in one line by everything that reads a tower, before anything is built of them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.__main__ import _main
from mgll.tower.file import load_tower, read_tower, save_tower
from mgll.tower.model import build_model

SHAPE = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG: dict[str, Any] = {"image_size": 24, "patch_size": 8, **SHAPE}
VIT = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224"}
VIT["model_args"] = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_tower(tmp_path / "mgll.ckpt", CLIPVisionModel(CLIPVisionConfig(**CONFIG)), Preprocessing(size=24))
    return tmp_path / "mgll.ckpt"


def rewrite(path: Path, header: Callable[[dict[str, Any]], object]) -> None:
    """Change the tower's own header; the tensors stay."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    whole = json.loads(raw[8 : 8 + length])
    said = json.loads(whole["__metadata__"]["mgll"])
    header(said)
    whole["__metadata__"]["mgll"] = json.dumps(said)
    text = json.dumps(whole).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def refused(path: Path, match: str, capsys: pytest.CaptureFixture[str]) -> None:
    for read in (read_tower, load_tower):
        with pytest.raises(FormatError, match=match):
            read(path)
    assert _main(["validate", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path) in said


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_attention_heads": 7}, "24.* heads .*7"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number above 0, found 0"),
        ({"hidden_act": "evil"}, "evil"),
        ({"hidden_act": None}, "hidden_act"),
        ({"image_size": 24.0}, r"image_size must be a whole number above 0, found 24\.0"),
        ({"image_size": [24, 24]}, "image_size must be"),
        ({"num_hidden_layers": -2}, "num_hidden_layers must be"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers, the file has"),
        ({"hidden_size": "24"}, "hidden_size must be"),
        ({"hidden_size": 10**30}, "Overflow"),
        ({"patch_size": 0}, "patch_size must be"),
        ({"patch_size": -8}, "patch_size must be"),
        ({"patch_size": True}, "patch_size must be"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"model_type": ["clip_vision_model"]}, "measured"),
        ({"model_type": "bert"}, "measured"),
    ],
)
def test_a_configuration_of_which_no_tower_can_be_built(
    change: dict[str, Any], match: str, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(tower, lambda header: header["config"].update(change))
    refused(tower, match, capsys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"config": None}, "config"),
        ({"config": []}, "config"),
        ({"preprocessing": {"size": 48}}, "doesn't match model"),
        ({"preprocessing": {"size": 24, "std": [0, 1, 1]}}, "std"),
        ({"preprocessing": {"size": 24, "mean": [float("nan"), 0, 0]}}, "mean"),
        ({"pooling": "attention"}, "pooling"),
        (
            {
                "measured": {
                    "size": 24,
                    "stride": 8,
                    "grid": 9,
                    "width": 24,
                    "prefix": 1,
                    "class_token": True,
                    "depth": 2,
                }
            },
            "grid=9",
        ),
        ({"schema": "mgll.tower/9"}, "schema"),
    ],
)
def test_a_header_that_does_not_fit_the_model(
    change: dict[str, Any], match: str, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(tower, lambda header: header.update(change))
    refused(tower, match, capsys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_args": [1]}, "model_args"),
        ({"model_args": {"depth": -2}}, "weights do not fit|no timm_wrapper"),
        ({"model_args": {"depth": 10**9}}, "layers, the file has"),
        ({"model_args": {"img_size": 0}}, "tower header"),
        ({"model_args": {"embed_dim": "wide"}}, "no timm_wrapper"),
        ({"architecture": "../../evil"}, "no timm_wrapper"),
        ({"architecture": None}, "no timm_wrapper|not the name"),
    ],
)
def test_a_trunk_of_timm_that_cannot_be_built(
    change: dict[str, Any], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "timm.ckpt"
    save_tower(path, build_model(VIT), Preprocessing(size=32), "mean")
    read_tower(path)
    rewrite(path, lambda header: header["config"].update(change))
    refused(path, match, capsys)


def test_a_measured_geometry_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "timm.ckpt"
    save_tower(path, build_model(VIT), Preprocessing(size=32), "mean")
    rewrite(path, lambda header: header["measured"].update(prefix=0, grid=1))
    refused(path, "its tokens are size=32", capsys)


def test_a_header_that_is_nested_too_deeply(tower: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(tower)
    save_file(tensors, tower, {"mgll": '{"schema": ' + "[" * 100_000 + "]" * 100_000 + "}"})
    refused(tower, "recursion|nested", capsys)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_number_that_is_none(
    value: float, dtype: torch.dtype, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import safe_open

    with safe_open(tower, "pt") as file:
        said = file.metadata()
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tower).items()}
    save_file(tensors, tower, said)
    assert _main(["validate", str(tower)]) == 0
    capsys.readouterr()
    tensors["encoder.layers.1.mlp.fc1.weight"][3, 5] = value
    save_file(tensors, tower, said)
    refused(tower, r"NaN or infinity in encoder\.layers\.1\.mlp\.fc1\.weight", capsys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dtype": "I32"}, "is I32, whole numbers in the place of weights"),
        ({"dtype": "F16"}, "invalid shape, data type, or offset"),
        ({"dtype": "F8_E5M2", "shape": [96]}, "weights do not fit|F8_E5M2"),
        ({"shape": [12, 2]}, r"\(12, 2\), the config says \(24,\)"),
        ({"data_offsets": [0, 96]}, "invalid offset"),
    ],
)
def test_a_tensor_that_is_not_what_the_header_says(
    change: dict[str, Any], match: str, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tower.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    whole = json.loads(raw[8 : 8 + length])
    whole["post_layernorm.bias"].update(change)
    text = json.dumps(whole).encode()
    tower.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    refused(tower, match, capsys)


def test_both_halves_in_one_tower(tower: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors import safe_open

    with safe_open(tower, "pt") as file:
        said = file.metadata()
    tensors = {name: tensor.half() for name, tensor in load_file(tower).items()}
    save_file(tensors | {"post_layernorm.bias": tensors["post_layernorm.bias"].bfloat16()}, tower, said)
    refused(tower, "post_layernorm.bias is BF16 and .* is F16, in one file", capsys)


def test_a_tower_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    model = CLIPVisionModel(CLIPVisionConfig(**CONFIG))
    with torch.no_grad():
        model.post_layernorm.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity in post_layernorm\.weight"):
        save_tower(tmp_path / "mgll.ckpt", model, Preprocessing(size=24))
    assert not list(tmp_path.iterdir())
