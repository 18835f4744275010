"""What files beside published weights, and the names in them, say of a tower; and donors whose values are none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published import HF_VIT, below, biomedclip, clip_model, mgll, moved, openai, other, with_safetensors, with_torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model

from mgll.encoders.start_weights import load_start_weights
from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.published.__main__ import main
from mgll.published.conversion import convert
from mgll.tower.file import load_tower
from mgll.tower.model import image_feature
from mgll.weights.reading import read_weights

IMAGES, OPEN_CLIP = "preprocessor_config.json", "open_clip_config.json"
PROCESSOR = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_center_crop": True}


def dinov2(folder: Path, **said: Any) -> Any:
    """DINOv2 as published: positions for a large image, a processor that makes a small one."""
    model = moved(Dinov2Model(Dinov2Config(**HF_VIT | {"image_size": 72})))
    model.save_pretrained(folder)
    crop = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 36}}
    (folder / IMAGES).write_text(json.dumps(PROCESSOR | crop | said))
    return model


def test_dinov2_is_run_at_the_size_that_its_processor_makes(tmp_path: Path) -> None:
    model = dinov2(tmp_path)
    done = convert(tmp_path, "transformers", tmp_path / "tower.ckpt", pooling="cls")
    assert (done.header.geometry.grid, done.header.preprocessing.size) == (4, 32)  # not 9 x 9 at 72 px
    assert done.header.preprocessing.resize == "crop"
    assert done.from_file["size"] == 32
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():  # transformers interpolates the positions while it runs
        expected = model(pixels).pooler_output
        found = image_feature(load_tower(tmp_path / "tower.ckpt")[0], pixels, "cls")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({}, 32),
        ({"crop_size": 40}, 40),
        ({"crop_size": {"shortest_edge": 24}}, 24),
        ({"do_center_crop": False, "size": {"height": 48, "width": 48}}, 48),
        ({"do_center_crop": False, "size": 56}, 56),
        ({"do_center_crop": True, "crop_size": None}, 72),
    ],
)
def test_every_way_to_write_the_size_of_images(said: dict[str, Any], size: int, tmp_path: Path) -> None:
    dinov2(tmp_path, **said)
    assert convert(tmp_path, "rad-dino", tmp_path / "tower.ckpt").header.preprocessing.size == size


def test_the_callers_size_comes_first(tmp_path: Path) -> None:
    dinov2(tmp_path)
    assert convert(tmp_path, "rad-dino", tmp_path / "tower.ckpt", size=72).header.geometry.grid == 9


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crop_size": {"height": 32, "width": 48}}, "32 x 48, a tower's are square"),
        ({"crop_size": {"height": "wide", "width": "wide"}}, "cannot be followed"),
        ({"crop_size": ["a"]}, "cannot be followed"),
        ({"rescale_factor": 1.0}, "divided by 255"),
        ({"image_mean": 3}, "cannot be followed"),
        ({"image_std": [0.2, 0.2]}, "std"),
        ({"crop_size": 4}, "patch|size|square|image"),
    ],
)
def test_a_processor_that_cannot_be_followed(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    dinov2(tmp_path, **said)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path, "rad-dino", tmp_path / "tower.ckpt")
    assert not (tmp_path / "tower.ckpt").exists()


def test_pixels_that_are_not_normalised(tmp_path: Path) -> None:
    dinov2(tmp_path, do_normalize=False)
    rule = convert(tmp_path, "rad-dino", tmp_path / "tower.ckpt").header.preprocessing
    assert (rule.mean, rule.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("named", ["folder", "file"])
def test_mean_and_std_of_open_clip_config(named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, _ = biomedclip(tmp_path)
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash", "interpolation": "bicubic"}
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": said}))
    source, out = (path.parent if named == "folder" else path), str(tmp_path / "tower.ckpt")
    assert main([str(source), "--layout", "biomedclip", "--out", out]) == 0
    rule = load_tower(out)[1].preprocessing
    assert (rule.mean, rule.std, rule.resize) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash")
    printed = capsys.readouterr().out
    assert "as the file or those beside it say: mean (0.1, 0.2, 0.3), std (0.4, 0.5, 0.6), resize squash" in printed
    assert "mean" not in printed.split("as the published code has it")[1].split("\n")[0]
    done = convert(source, "biomedclip", out, mean=(0.5, 0.5, 0.5))  # the caller comes first
    assert done.header.preprocessing.mean == (0.5, 0.5, 0.5)
    assert done.header.preprocessing.std == (0.4, 0.5, 0.6)


@pytest.mark.parametrize(("quick", "act"), [(True, "quick_gelu"), (False, "gelu")])
def test_the_activation_of_open_clip_config(quick: bool, act: str, tmp_path: Path) -> None:
    model = clip_model(quick_gelu=quick, custom_text=True)
    with_safetensors(tmp_path / "open_clip_model.safetensors", model.state_dict())
    model_cfg = {"quick_gelu": True} if quick else {}
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"model_cfg": model_cfg | {"vision_cfg": {}, "text_cfg": {}}}))
    done = convert(tmp_path, "open_clip", tmp_path / "tower.ckpt")  # without the file it asks for --hidden-act
    assert done.header.config["hidden_act"] == act
    model.visual.proj = None
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        found, expected = image_feature(load_tower(tmp_path / "tower.ckpt")[0], pixels, "cls"), model.visual(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", ["[]", "{", '{"preprocess_cfg": {"resize_mode": "evil"}}', '{"preprocess_cfg": 3}'])
def test_an_open_clip_config_that_is_none(text: str, tmp_path: Path) -> None:
    biomedclip(tmp_path)
    (tmp_path / OPEN_CLIP).write_text(text)
    with pytest.raises(FormatError, match=OPEN_CLIP):
        convert(tmp_path, "biomedclip", tmp_path / "tower.ckpt")


def mgll_before_2_29(folder: Path) -> Path:
    """The authors' file as open_clip made it until 2.28: OpenAI's own class, whose text side has no prefix."""
    model = clip_model(quick_gelu=True, custom_text=False)
    return with_torch(
        folder / "pretrain.pth", {"model": below("clip.", dict(model.state_dict())) | other("text_model.x.bias")}
    )


def test_mgll_of_an_old_open_clip_is_quick_gelu(tmp_path: Path) -> None:
    done = convert(mgll_before_2_29(tmp_path), "mgll", tmp_path / "tower.ckpt")
    assert done.header.config["hidden_act"] == done.from_file["hidden_act"] == "quick_gelu"


def test_mgll_of_a_new_open_clip_is_gelu(tmp_path: Path) -> None:
    done = convert(mgll(tmp_path)[0], "mgll", tmp_path / "tower.ckpt")
    assert done.header.config["hidden_act"] == done.from_file["hidden_act"] == "gelu"
    with pytest.warns(UserWarning, match="names of its tensors tell gelu"):
        convert(mgll(tmp_path)[0], "mgll", tmp_path / "tower.ckpt", hidden_act="quick_gelu")


def test_mgll_without_its_text_side_tells_nothing(tmp_path: Path) -> None:
    path, _, _ = mgll(tmp_path)
    content = torch.load(path, weights_only=False)
    content["model"] = {name: t for name, t in content["model"].items() if name.startswith("clip.visual.")}
    done = convert(with_torch(path, content), "mgll", tmp_path / "tower.ckpt")
    assert done.from_layout["hidden_act"] == "gelu"  # an assumption, and listed as one
    assert "hidden_act" not in done.from_file


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensor: tensor.long(), "holds torch.int64, the tower wants torch.float32"),
        (lambda tensor: tensor.to(torch.complex64), "is no plain tensor"),
        (lambda tensor: tensor.to_sparse(), "is no plain tensor"),
        (lambda tensor: torch.zeros(1, 1, 1, 1).expand(10**5, 3, 10**3, 10**3), "is no plain tensor"),
    ],
)
def test_a_donor_whose_tensors_are_no_plain_numbers(change: Any, match: str, tmp_path: Path) -> None:
    path, _, _ = openai(tmp_path)
    tensors = {n: t.clone() for n, t in read_weights(path).items()}
    tensors["visual.conv1.weight"] = change(tensors["visual.conv1.weight"])
    with pytest.raises(FormatError, match=match):
        convert(with_torch(tmp_path / "donor.pt", tensors), "openai", tmp_path / "tower.ckpt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "empty"])
@pytest.mark.parametrize("kind", ["pickle", "safetensors", "transformers", "start weights", "start folder"])
def test_a_donor_without_numbers_is_refused(kind: str, value: float | str, tmp_path: Path) -> None:
    match = "1 tensors are empty.* ZeRO-3" if value == "empty" else "NaN or infinity in"
    if kind in ("transformers", "start folder"):
        dinov2(tmp_path)
        file, name = tmp_path / "model.safetensors", "encoder.layer.0.mlp.fc1.weight"
        tensors = load_file(file)
    else:
        path, _, _ = openai(tmp_path)
        tensors = {n: t for n, t in read_weights(path).items() if t.is_floating_point()}
        name = "visual.conv1.weight"
        file = tmp_path / ("donor.safetensors" if kind != "pickle" else "donor.pt")
    tensors = {n: t.clone() for n, t in tensors.items()}
    if value == "empty":
        tensors[name] = torch.empty(0)
    else:
        tensors[name].view(-1)[3] = value
    torch.save(tensors, file) if kind == "pickle" else save_file(tensors, file, {"format": "pt"})
    if kind == "transformers":
        with pytest.raises(FormatError, match=match):
            convert(tmp_path, "rad-dino", tmp_path / "tower.ckpt")
    elif kind == "start folder":
        with pytest.raises(FormatError, match=match):
            vision_encoder(f"hf:{tmp_path}", 72)
    elif kind == "start weights":
        model = vision_encoder("vit-nano-16", 32)
        with pytest.raises(FormatError, match=match):
            load_start_weights(model, file)
    else:
        with pytest.raises(FormatError, match=match):
            convert(file, "openai", tmp_path / "tower.ckpt")
    assert not (tmp_path / "tower.ckpt").exists()
