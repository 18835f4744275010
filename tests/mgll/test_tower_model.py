"""Every model that a tower can be: written and read back bit for bit, its tokens and pooled feature those of its own class."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.__main__ import _main
from mgll.tower.config import TIMM, Geometry, at_size
from mgll.tower.file import load_tower, read_header, save_tower
from mgll.tower.model import (
    PLAIN_VITS,
    build_model,
    check_pooling,
    hidden_state,
    image_feature,
    last_norm,
    measure,
    normed,
)

VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
TIMM_VIT = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}


def timm(architecture: str, **model_args: Any) -> dict[str, Any]:
    return {"model_type": TIMM, "architecture": architecture, "model_args": model_args}


#: configuration, size of the image, tokens before the grid, side of the grid, whether the first token is a class token
TOWERS = {name: ({"model_type": name, "image_size": 32, **VIT}, 32, vit.prefix, 4) for name, vit in PLAIN_VITS.items()}
TOWERS |= {
    "dinov2_with_registers": ({**TOWERS["dinov2_with_registers"][0], "num_register_tokens": 3}, 32, 4, 4),
    "timm vit": (timm("vit_base_patch16_224", **TIMM_VIT), 32, 1, 4),
    "timm siglip": (timm("vit_base_patch16_siglip_224", **TIMM_VIT), 32, 0, 4),
    "timm average, registers": (timm("vit_medium_patch16_reg4_gap_256", **TIMM_VIT), 32, 4, 4),
    "timm distilled": (timm("deit_tiny_distilled_patch16_224", **TIMM_VIT), 32, 2, 4),
    "timm convnext": (timm("convnext_atto", depths=[1, 1, 1, 1], dims=[4, 8, 12, 16]), 64, 0, 2),
    "timm resnet": (timm("resnet10t", channels=[4, 8, 12, 16]), 64, 0, 2),
    "timm swin": (
        timm("swin_tiny_patch4_window7_224", img_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1] * 4),
        64,
        0,
        2,
    ),
}
#: `last_hidden_state` lies before the last norm, or this norm follows the pooling
NOT_NORMED = ("clip_vision_model", "timm average, registers", "timm convnext")


def telling(config: dict[str, Any]) -> Any:
    """Norms, biases and layer scales start at constants; move them."""
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_a_tower_comes_back_bit_for_bit_with_its_geometry(name: str, tmp_path: Path) -> None:
    config, size, prefix, grid = TOWERS[name]
    original = telling(config)
    save_tower(tmp_path / "mgll.ckpt", original, Preprocessing(size=size), "mean")
    model, header = load_tower(tmp_path / "mgll.ckpt")
    found = header.geometry
    assert (found.prefix, found.grid, found.size, found.width) == (prefix, grid, size, 16 if "swin" not in name else 64)
    assert found.class_token == (prefix > 0 and "average" not in name)
    assert found == measure(model, size)
    assert header.schema_ == ("mgll.tower/1" if name == "clip_vision_model" else "mgll.tower/2")
    pixels = torch.randn(2, 3, size, size)
    for layer in {-1, -found.depth, 1, found.depth}:
        assert torch.equal(hidden_state(model, pixels, layer), hidden_state(original, pixels, layer))
    tokens = normed(model, hidden_state(model, pixels))
    assert tokens.shape == (2, prefix + grid**2, found.width)
    torch.testing.assert_close(image_feature(model, pixels, "mean"), tokens[:, prefix:].mean(1))
    if name not in NOT_NORMED:
        last = original(pixels).last_hidden_state
        last = last.flatten(1, 2) if "swin" in name else last.flatten(2).mT if last.ndim == 4 else last
        torch.testing.assert_close(tokens, last)


@torch.no_grad()
def test_the_heads_are_the_models_own() -> None:
    for name in ("siglip_vision_model", "timm siglip", "timm convnext", "timm average, registers"):
        config, size, _, _ = TOWERS[name]
        model, pixels = telling(config), torch.randn(2, 3, size, size)
        torch.testing.assert_close(image_feature(model, pixels, "head"), model(pixels).pooler_output)
    model, pixels = telling(TOWERS["timm convnext"][0]), torch.randn(2, 3, 64, 64)
    mean = model.timm_model.forward_features(pixels).mean(dim=(2, 3))
    norm = torch.nn.functional.layer_norm(mean, (16,), *last_norm(model).parameters(), eps=1e-6)
    torch.testing.assert_close(image_feature(model, pixels, "head"), norm)


@pytest.mark.parametrize(
    ("name", "pooling", "message"),
    [
        ("siglip_vision_model", "cls", "no class token"),
        ("timm average, registers", "cls", "no class token"),
        ("vit", "head", "no pooling head"),
    ],
)
def test_a_pooling_that_the_model_does_not_have_is_refused(name: str, pooling: Any, message: str, tmp_path) -> None:
    config, size, _, _ = TOWERS[name]
    with pytest.raises(ValueError, match=message):
        save_tower(tmp_path / "mgll.ckpt", build_model(config), Preprocessing(size=size), pooling)
    assert not (tmp_path / "mgll.ckpt").exists()


def test_a_head_of_another_width_is_refused() -> None:
    model = build_model(timm("mobilenetv3_small_050"))
    with pytest.raises(ValueError, match="gives \\(1024,\\) channels, its tokens have 288"):
        check_pooling(model, measure(model, 64), "head")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "cannot be a 'bert'"),
        (timm("hf-hub:somebody/model"), "not the name of a model in timm"),
        (timm("convnext_attoo"), "convnext_attoo"),
        (timm("convnext_atto", checkpoint_path="x.pth"), "may not hold checkpoint_path"),
        (timm("convnext_atto", widths=3), "widths"),
    ],
)
def test_what_cannot_be_a_tower_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(config)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm siglip", 40, "does not take an RGB image of 40 px"),
        ("timm swin", 32, "does not take an RGB image of 32 px"),
    ],
)
def test_an_image_of_another_size_is_refused(name: str, size: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        save_tower(tmp_path / "mgll.ckpt", build_model(TOWERS[name][0]), Preprocessing(size=size), "mean")


def test_a_trunk_without_a_square_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions"):
        measure(build_model(timm("xcit_nano_12_p16_224", img_size=32)), 32)


def rewritten_header(path: Path, change: Any) -> None:
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["mgll"])
    change(header)
    save_file(load_file(path), path, metadata={"mgll": json.dumps(header)})


def test_a_header_that_is_wrong_about_its_tokens_is_no_valid_tower(tmp_path: Path, capsys) -> None:
    path = tmp_path / "mgll.ckpt"
    config, size, _, _ = TOWERS["siglip_vision_model"]
    save_tower(path, build_model(config), Preprocessing(size=size), "head")
    assert _main(["validate", str(path)]) == 0
    rewritten_header(path, lambda header: header["measured"].update(prefix=1, class_token=True))
    assert _main(["validate", str(path)]) == 1
    assert "the header says" in "".join(capsys.readouterr())
    rewritten_header(path, lambda header: header.pop("measured"))
    with pytest.raises(FormatError, match="needs `measured`"):
        read_header(path)
    rewritten_header(path, lambda header: header.update(config={"model_type": "bert"}, measured=dict(BERT)))
    with pytest.raises(FormatError, match="cannot be a 'bert'"):
        load_tower(path)


BERT = Geometry(size=32, stride=8, grid=4, width=16, prefix=0, class_token=False, depth=2)


def test_a_clip_tower_is_written_as_ever_and_older_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mgll.ckpt"
    save_tower(path, build_model(TOWERS["clip_vision_model"][0]), Preprocessing(size=32), "cls")
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["mgll"])
    assert header.keys() == {"schema", "config", "preprocessing", "pooling", "origin"}
    rewritten_header(path, lambda header: header["config"].pop("model_type"))
    assert load_tower(path)[1].kind == "clip_vision_model"


def test_the_configuration_at_another_size() -> None:
    for name, (config, size, prefix, _) in TOWERS.items():
        if "swin" not in name:
            model = build_model(at_size(config, size * 2))
            assert measure(model, size * 2).grid == size * 2 // measure(model, size * 2).stride, name
            assert measure(model, size * 2).prefix == prefix
