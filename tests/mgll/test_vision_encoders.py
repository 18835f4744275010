"""Image encoders by name, and start weights: all of the encoder from the file, and the same numbers as where it comes from."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
)

from mgll.encoders.open_clip_names import tower_names
from mgll.encoders.vision import vision_encoder
from mgll.encoders.vision_configs import encoder_config
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower
from mgll.tower.model import build_model, config_of, hidden_state, image_feature, measure, normed

WIDTH, DEPTH, SIZE, PATCH = 32, 2, 32, 8
SHAPE = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
#: The tiny ViT of this page: a CLIP ViT under one of our names, with another shape.
TINY_VIT = {**SHAPE, "patch_size": PATCH}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [4, 8, 12, 16]}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def moved(model: Any, seed: int = 3) -> Any:
    """Every tensor telling."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def open_clip_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nn.Module]:
    """Tiny models of open_clip, known to it by name as the published ones are."""
    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    vit = {"image_size": SIZE, "layers": DEPTH, "width": WIDTH, "head_width": 16, "mlp_ratio": 2.0, "patch_size": PATCH}
    trunk = {"image_size": 64, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"}
    for name, vision in (("tiny-vit", vit), ("tiny-convnext", trunk), ("tiny-alt", vit | {"no_ln_pre": True})):
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    quick = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": vit, "text_cfg": text}
    (folder / "tiny-vit-quickgelu.json").write_text(json.dumps(quick))
    open_clip.add_model_config(folder)
    return lambda name: moved(open_clip.create_model(name))


@pytest.mark.parametrize(
    ("ours", "theirs", "millions"),
    [
        ("vit-base-16", "open_clip:ViT-B-16", 85.8),
        ("vit-large-14", "open_clip:ViT-L-14", 303.2),
        ("vit-huge-14", "open_clip:ViT-H-14", 630.8),
        ("convnext-base", "open_clip:convnext_base", 87.6),
        ("convnext-large", "timm:convnext_large", 196.2),
    ],
)
def test_the_papers_encoders_are_those_of_open_clip(ours: str, theirs: str, millions: float) -> None:
    found = encoder_config(ours, 224)
    assert found == encoder_config(theirs, 224)
    with torch.device("meta"):
        model = build_model(found)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_quick_gelu_model_has_that_activation() -> None:
    assert encoder_config("open_clip:ViT-L-14-quickgelu", 224)["hidden_act"] == "quick_gelu"
    assert encoder_config("vit-base-16", 224, {"hidden_act": "quick_gelu"})["hidden_act"] == "quick_gelu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit-giant", "unknown encoder 'vit-giant'; .*known: vit-nano-16"),
        ("vit_base_16", "unknown encoder 'vit_base_16'; did you mean vit-base-16"),
        ("timm:convnext_bass", "no model called 'convnext_bass'; did you mean convnext_base"),
        ("open_clip:ViT-B16", "no model called 'ViT-B16'; did you mean ViT-B-16"),
        ("open_clip:ViT-L-14-CLIPA", "no plain CLIP ViT .*no_ln_pre"),
        ("open_clip:coca_ViT-B-32", "no plain CLIP ViT .*attentional_pool"),
    ],
)
def test_an_encoder_that_there_is_not_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vision_encoder(name, 224)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit-nano-16", 40, "patches of 16 px, which do not tile 40 px; 32 or 48 would do"),
        ("timm:test_vit", 100, "patches of 16 px, which do not tile 100 px; 96 or 112 would do"),
    ],
)
def test_patches_must_tile_the_image(name: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vision_encoder(name, size)


def test_an_option_that_there_is_not_is_refused() -> None:
    for options, message in [
        ({"hiden_act": "gelu"}, "a ViT has no option hiden_act"),
        ({"hidden_act": "gelo"}, "'gelo' is not known"),
    ]:
        with pytest.raises(ValueError, match=message):
            vision_encoder("vit-nano-16", 32, **options)
    with pytest.raises(ValueError, match="unexpected keyword argument 'drop_pth'"):
        vision_encoder("timm:resnet10t", 32, drop_pth=0.1)


def test_a_trunk_of_timm_starts_as_timm_starts_it() -> None:
    torch.manual_seed(0)
    model = vision_encoder("timm:resnet10t", 64, channels=[4, 8, 12, 16])
    torch.manual_seed(0)
    build_model(config_of(model))
    expected = timm.create_model("resnet10t", num_classes=0, channels=[4, 8, 12, 16]).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.timm_model.state_dict().items())


@pytest.mark.parametrize("form", ["safetensors", "pt", "folder", "torchscript"])
@torch.no_grad()
def test_open_clips_weights_give_open_clips_features(form: str, open_clip_model, tmp_path: Path) -> None:
    name = "tiny-vit-quickgelu" if form == "torchscript" else "tiny-vit"
    reference, path = open_clip_model(name), tmp_path / f"model.{form}"
    if form == "safetensors":
        save_file(reference.state_dict(), path)
    elif form == "pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in reference.state_dict().items()}}, path)
    elif form == "folder":
        path.mkdir()
        save_file(reference.state_dict(), path / "open_clip_model.safetensors")
        (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip.get_model_config("tiny-vit")}))
    else:
        save_program(reference.visual, path)
    model, pixels = vision_encoder(f"open_clip:{name}", SIZE, str(path)).eval(), torch.randn(2, 3, SIZE, SIZE)
    found = image_feature(model, pixels, "cls") @ reference.visual.proj
    torch.testing.assert_close(found, reference.encode_image(pixels))


class ImageSide(nn.Module):
    """What OpenAI's archives look like: a program whose image tower is called `visual`."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual(pixels)


@torch.no_grad()
def save_program(visual: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the published archives remain
        program = torch.jit.trace(ImageSide(visual), torch.zeros(1, 3, SIZE, SIZE), check_trace=False)
        torch.jit.save(program, path)


@torch.no_grad()
def test_a_trunk_in_an_open_clip_model(open_clip_model, tmp_path: Path) -> None:
    reference = open_clip_model("tiny-convnext")
    torch.save(reference.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    for name in ("open_clip:tiny-convnext", "timm:test_convnext"):
        model = vision_encoder(name, 64, str(tmp_path / "open_clip_pytorch_model.bin")).eval()
        pixels = torch.randn(2, 3, 64, 64)
        found = reference.visual.head(image_feature(model, pixels, "head"))
        torch.testing.assert_close(found, reference.encode_image(pixels))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "torchscript"])
@torch.no_grad()
def test_a_resnet_of_clip(form: str, tmp_path: Path) -> None:
    visual, path = moved(ModifiedResNet([3, 4, 6, 3], 1024, 32, image_size=SIZE, width=64)), tmp_path / f"RN50.{form}"
    for name, buffer in visual.named_buffers():
        if "running" in name:
            buffer.add_(torch.rand_like(buffer))
    if form == "safetensors":
        save_file({f"visual.{name}": tensor for name, tensor in visual.state_dict().items()}, path)
    else:
        save_program(visual, path)
    model, pixels = vision_encoder("open_clip:RN50", SIZE, str(path)).eval(), torch.randn(1, 3, SIZE, SIZE)
    grid = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
    torch.testing.assert_close(hidden_state(model, pixels), grid.flatten(2).mT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["RN50-quickgelu", "RN101", "RN50x4", "RN50x16", "RN50x64"])
def test_the_resnets_of_clip_are_those_of_open_clip(name: str) -> None:
    vision = open_clip.get_model_config(name)["vision_cfg"]
    with torch.device("meta"):
        theirs = ModifiedResNet(vision["layers"], 1024, 32, vision["image_size"], vision["width"]).state_dict()
        ours = build_model(encoder_config(f"open_clip:{name}", 224)).state_dict()
    named = tower_names(theirs)
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in named.items()}


def test_openais_weights_need_quick_gelu(open_clip_model, tmp_path: Path) -> None:
    save_program(open_clip_model("tiny-vit").visual, tmp_path / "ViT.pt")
    with pytest.raises(ValueError, match="hidden_act is 'quick_gelu' there, 'gelu' here"):
        vision_encoder("open_clip:tiny-vit", SIZE, str(tmp_path / "ViT.pt"))


def transformers_folders(folder: Path) -> dict[str, tuple[Any, str, int]]:
    """Models of transformers, where the vision tower sits in each, and its tokens before the grid."""
    shape = TINY_VIT | {"image_size": SIZE}
    return {
        "clip": (CLIPModel(CLIPConfig(vision_config=shape, text_config=TEXT)), "vision_model", 1),
        "siglip": (SiglipModel(SiglipConfig(vision_config=shape, text_config=TEXT)), "vision_model", 0),
        "classifier": (ViTForImageClassification(ViTConfig(**shape)), "vit", 1),
        "dinov2": (Dinov2ForImageClassification(Dinov2Config(**shape)), "dinov2", 1),
        "registers": (Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape)), "", 5),
    }


@pytest.mark.parametrize("name", ["clip", "siglip", "classifier", "dinov2", "registers"])
@torch.no_grad()
def test_a_folder_of_transformers(name: str, tmp_path: Path) -> None:
    reference, inside, prefix = transformers_folders(tmp_path)[name]
    moved(reference).save_pretrained(tmp_path / "model")
    tower = reference.get_submodule(inside)
    model, pixels = vision_encoder(f"hf:{tmp_path / 'model'}", SIZE).eval(), torch.randn(2, 3, SIZE, SIZE)
    found, expected = normed(model, hidden_state(model, pixels)), tower(pixels).last_hidden_state
    torch.testing.assert_close(found, normed(model, expected) if name == "clip" else expected)
    larger = vision_encoder(f"hf:{tmp_path / 'model'}", SIZE * 2).eval()
    geometry = measure(larger, SIZE * 2)
    assert (geometry.grid, geometry.prefix) == (8, prefix)
    pixels = torch.randn(1, 3, SIZE * 2, SIZE * 2)
    if name in ("clip", "siglip"):
        interpolated = tower(pixels, output_hidden_states=[-1], interpolate_pos_encoding=True).hidden_states[-1]
        torch.testing.assert_close(hidden_state(larger, pixels), interpolated)


def test_a_folder_of_transformers_as_start_weights(tmp_path: Path) -> None:
    reference = moved(transformers_folders(tmp_path)["clip"][0])
    reference.save_pretrained(tmp_path / "model")
    options = TINY_VIT | {"hidden_act": "quick_gelu"}
    model = vision_encoder("vit-base-16", SIZE, str(tmp_path / "model"), **options)
    expected = reference.vision_model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="hidden_act is 'quick_gelu' there, 'gelu' here"):
        vision_encoder("vit-base-16", SIZE, str(tmp_path / "model"), **TINY_VIT)
    with pytest.raises(ValueError, match="num_attention_heads is 2 there, 4 here"):
        vision_encoder("vit-base-16", SIZE, str(tmp_path / "model"), **options | {"num_attention_heads": 4})


def test_weights_that_a_folder_does_not_have_are_not_made_up(tmp_path: Path) -> None:
    reference = transformers_folders(tmp_path)["classifier"][0]
    reference.config.num_hidden_layers += 1  # the files hold one block less
    reference.save_pretrained(tmp_path / "less")
    with pytest.raises(FormatError, match=r"missing_keys: .*layers\.2\."):
        vision_encoder(f"hf:{tmp_path / 'less'}", SIZE)
    reference.config.num_hidden_layers -= 2
    reference.save_pretrained(tmp_path / "more")
    with pytest.raises(FormatError, match=r"unexpected_keys: .*layers\.1\."):
        vision_encoder(f"hf:{tmp_path / 'more'}", SIZE)
    reference.config.intermediate_size = 48
    reference.config.save_pretrained(tmp_path / "more")
    with pytest.raises(FormatError, match=r"misshapen: .*\.weight is \(64, 32\), its config.json says \(48, 32\)"):
        vision_encoder(f"hf:{tmp_path / 'more'}", SIZE)
    (tmp_path / "more" / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(FormatError, match="not a whole safetensors file"):
        vision_encoder(f"hf:{tmp_path / 'more'}", SIZE)


@pytest.mark.parametrize("form", ["file", "folder"])
@torch.no_grad()
def test_timms_weights_without_their_classifier(form: str, tmp_path: Path) -> None:
    reference = moved(timm.create_model("convnext_atto", num_classes=7, **CONVNEXT))
    tensors, path = reference.state_dict(), tmp_path / "model.safetensors"
    save_file(tensors, path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnext_atto", "num_classes": 7}))
    start = str(path if form == "file" else tmp_path)
    model, pixels = vision_encoder("timm:convnext_atto", 64, start, **CONVNEXT).eval(), torch.randn(2, 3, 64, 64)
    expected = reference.forward_head(reference.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(image_feature(model, pixels, "head"), expected)
    if form == "folder":
        with pytest.raises(ValueError, match="architecture is 'convnext_atto' there, 'convnext_femto' here"):
            vision_encoder("timm:convnext_femto", 64, start, **CONVNEXT)


def test_a_tower_file_as_start_weights_with_other_positions(tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_tower(tmp_path / "mgll.ckpt", vision_encoder("vit-nano-16", 64), Preprocessing(size=64), "mean")
    torch.manual_seed(2)
    same, larger = (vision_encoder("vit-nano-16", size, str(tmp_path / "mgll.ckpt")) for size in (64, 96))
    table = "embeddings.position_embedding.weight"
    ours, theirs = same.state_dict(), larger.state_dict()
    assert theirs[table].shape == (37, 64)
    assert torch.equal(theirs[table][0], ours[table][0])
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items() if name != table)
    with pytest.raises(ValueError, match="num_attention_heads is 2 there, 4 here"):
        vision_encoder("vit-nano-16", 64, str(tmp_path / "mgll.ckpt"), num_attention_heads=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("visual.ln_post.bias"), "post_layernorm.bias is missing"),
        (lambda t: t.update({"visual.more": torch.zeros(2)}), "more is surplus"),
        (
            lambda t: t.update({"visual.ln_pre.bias": torch.zeros(5)}),
            r"pre_layrnorm.bias is \(5,\), the encoder has \(32,\)",
        ),
    ],
)
def test_half_a_model_is_refused(change: Callable[[Any], Any], message: str, open_clip_model, tmp_path: Path) -> None:
    tensors = open_clip_model("tiny-vit").state_dict()
    change(tensors)
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match=message):
        vision_encoder("open_clip:tiny-vit", SIZE, str(tmp_path / "half.safetensors"))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this was run",)


def test_what_is_no_file_of_weights_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    torch.save({"epoch": 3}, tmp_path / "bare.pt")
    for name, message in {
        "none.pt": "no such file of weights",
        "empty": "open_clip_model.safetensors.* in it",
        "cut.safetensors": "no whole file of tensors|not a whole safetensors file",
        "cut.pt": "no whole file of tensors",
        "trap.pt": "nothing in it was run",
        "bare.pt": "holds no tensors",
    }.items():
        with pytest.raises(FormatError, match=message):
            vision_encoder("vit-nano-16", 32, str(tmp_path / name))
    assert "this was run" not in capsys.readouterr().out
    with pytest.raises(FormatError, match="not a model folder"):
        vision_encoder(f"hf:{tmp_path / 'empty'}", 32)


def test_a_model_that_no_tower_can_be_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'bert'"):
        vision_encoder(f"hf:{tmp_path}", 32)
    with pytest.raises(ValueError, match="lies in its folder"):
        vision_encoder(f"hf:{tmp_path}", 32, hidden_act="gelu")
