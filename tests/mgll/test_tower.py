"""The tower file: what is written is read back bit for bit, and nothing else passes for one."""

import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.__main__ import _main
from mgll.tower.config import CLIP_DEFAULTS
from mgll.tower.file import load_tower, read_header, save_tower, tower_shapes
from mgll.tower.model import image_feature


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    model = vision_encoder("vit-nano-16", 32, hidden_act="quick_gelu")
    save_tower(tmp_path / "mgll.ckpt", model, Preprocessing(size=32, resize="squash"), "cls", objective="mgll")
    return tmp_path / "mgll.ckpt"


def test_a_tower_comes_back_bit_for_bit(path):
    torch.manual_seed(0)
    original = vision_encoder("vit-nano-16", 32, hidden_act="quick_gelu").eval()
    model, header = load_tower(path)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(pixels).last_hidden_state, original(pixels).last_hidden_state)
    assert (header.config["hidden_act"], header.pooling, header.preprocessing.resize) == ("quick_gelu", "cls", "squash")
    assert header.origin["objective"] == "mgll"


def test_writing_twice_gives_the_same_bytes(path, tmp_path):
    torch.manual_seed(0)
    model = vision_encoder("vit-nano-16", 32, hidden_act="quick_gelu")
    save_tower(tmp_path / "again", model, Preprocessing(size=32, resize="squash"), "cls", objective="mgll")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_pooling_is_the_class_token_or_the_mean_of_the_patches(path):
    model, _ = load_tower(path)
    pixels = torch.randn(2, 3, 32, 32)
    output = model(pixels)
    assert torch.equal(image_feature(model, pixels, "cls"), output.pooler_output)
    expected = model.post_layernorm(output.last_hidden_state[:, 1:]).mean(dim=1)
    torch.testing.assert_close(image_feature(model, pixels, "mean"), expected)
    assert not torch.allclose(expected, output.pooler_output)


def rewritten(path, change):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such tower file"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not a whole safetensors file"),
        (lambda path: path.write_bytes(b""), "not a whole safetensors file"),
        (lambda path: torch.save({"model": 1}, path), "this is a pickle"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "this is a pickle"),
        (lambda path: save_file(load_file(path), path), "weights, but not a tower"),
        (lambda path: rewritten(path, lambda t: t.pop("post_layernorm.bias")), "post_layernorm.bias is missing"),
        (lambda path: rewritten(path, lambda t: t.update(head=torch.zeros(2))), "head is surplus"),
        (
            lambda path: rewritten(path, lambda t: t.update({"pre_layrnorm.bias": torch.zeros(8)})),
            r"pre_layrnorm.bias is \(8,\), the config says \(64,\)",
        ),
    ],
)
def test_anything_else_is_refused_with_what_it_is(path, damage, message, capsys):
    damage(path)
    with pytest.raises(FormatError, match=message):
        load_tower(path)
    assert _main(["validate", str(path)]) == 1
    assert "mgll.ckpt" in "".join(capsys.readouterr())


def test_show_prints_the_header(path, capsys):
    assert _main(["show", str(path)]) == 0
    assert '"schema": "mgll.tower/1"' in capsys.readouterr().out
    assert read_header(path).schema_ == "mgll.tower/1"


def test_a_fresh_tower_starts_with_positions_and_attention_to_like_tokens():
    torch.manual_seed(0)
    model = vision_encoder("vit-nano-16", 64)
    positions = model.embeddings.position_embedding.weight[1:]
    near, far = positions[5] @ positions[6], positions[5] @ positions[15]
    assert near > far
    attention = model.encoder.layers[0].self_attn
    product = attention.v_proj.weight.T @ attention.out_proj.weight.T
    assert product.diagonal().mean().item() == pytest.approx(-0.4, abs=0.05)
    queries_keys = attention.q_proj.weight.T @ attention.k_proj.weight
    off_diagonal = queries_keys - torch.diag(queries_keys.diagonal())
    assert queries_keys.diagonal().mean() > 10 * off_diagonal.mean().abs()


@pytest.mark.parametrize(
    "config",
    [
        {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
        },
        {"hidden_size": 24, "num_attention_heads": 3, "patch_size": 14, "num_channels": 1, "num_hidden_layers": 1},
    ],
)
def test_the_expected_shapes_are_those_of_the_class(config: dict[str, int]) -> None:
    with torch.device("meta"):
        model = CLIPVisionModel(CLIPVisionConfig(**config))
    assert tower_shapes(config) == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_the_defaults_are_those_of_the_class() -> None:
    config = CLIPVisionConfig()
    assert {name: getattr(config, name) for name in CLIP_DEFAULTS} == CLIP_DEFAULTS
