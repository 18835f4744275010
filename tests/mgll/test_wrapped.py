"""Encoders in checkpoints of Lightning, DistributedDataParallel, torch.compile and DINO: one part is found, or all are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from published import below, clip_model, retfound, with_torch

from mgll.formats import FormatError
from mgll.published.conversion import convert
from mgll.published.recognition import tower_of
from mgll.tower.file import load_tower
from mgll.tower.model import image_feature

#: Entry and prefix of a training's checkpoint.
WRAPPED = [
    ("state_dict", "model."),
    ("state_dict", "model._orig_mod."),
    ("state_dict", "net.encoder."),
    ("state_dict", "student.backbone."),
    ("model", "module.visual."),
    ("model_ema", "module."),
    ("state_dict_ema", ""),
    ("", "_orig_mod.module."),
]


def wrapped(path: Path, entry: str, prefix: str, **more: Any) -> tuple[dict[str, Any], int]:
    """The content of a RETFound file as a training would have saved it, and how many tensors of the encoder it has."""
    tensors = torch.load(path, weights_only=False)["model"]
    content = below(prefix, tensors) | more
    beside = {"optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}], "epoch": 3}
    return ({entry: content} | beside if entry else content), len(tensors)


@pytest.mark.parametrize(("entry", "prefix"), WRAPPED)
def test_one_part_is_read_as_if_it_were_the_published_file(
    entry: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, feature, size = retfound(tmp_path)
    # without a prefix every tensor of the entry is the part's
    beside = {"criterion.weight": torch.ones(3), "head_aux.bias": torch.ones(3)} if prefix else {}
    content, count = wrapped(path, entry, prefix, **beside)
    with_torch(path, content)
    done = convert(path, "retfound", tmp_path / "tower.ckpt")
    said = capsys.readouterr().out
    assert f"({count} tensors); {len(beside)} tensors beside it stay behind" in said
    assert dict.fromkeys(("criterion.*", "head_aux.*")[: len(beside)], 1).items() <= done.left_out.items()
    model, header = load_tower(tmp_path / "tower.ckpt")
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(image_feature(model, pixels, header.pooling), feature(pixels), atol=1e-5, rtol=1e-5)


def test_two_parts_are_named_and_neither_is_taken(tmp_path: Path) -> None:
    path = retfound(tmp_path)[0]
    tensors = torch.load(path, weights_only=False)["model"]
    with_torch(path, {"state_dict": below("student.", tensors) | below("teacher.", tensors)})
    with pytest.raises(
        FormatError, match=r"2 parts of it may be the encoder: under student\. in state_dict \(\d+ tensors\)"
    ):
        convert(path, "retfound", tmp_path / "tower.ckpt")
    with pytest.raises(FormatError, match="2 parts of it"):
        tower_of(path, tmp_path / "towers")


def test_averaged_weights_beside_the_layouts_own_are_counted(tmp_path: Path) -> None:
    path = retfound(tmp_path)[0]
    content = torch.load(path, weights_only=False)
    with_torch(path, content | {"model_ema": content["model"]})
    assert convert(path, "retfound", tmp_path / "tower.ckpt").left_out["model_ema: *"] == len(content["model"])


def test_a_clip_in_a_lightning_module_is_recognised(tmp_path: Path) -> None:
    content = below("model.", dict(clip_model().state_dict()))
    path = with_torch(tmp_path / "unimed_clip.ckpt", {"state_dict": content})
    tower = tower_of(f"openai:{path}", tmp_path / "towers")
    assert load_tower(tower)[1].origin["layout"] == "openai"


def test_a_name_of_a_library_is_answered_by_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such tower file, but a model of timm.* did you mean timm:FILE"):
        tower_of("vit_tiny_patch16_224", tmp_path)
    with pytest.raises(ValueError, match="did you mean open_clip:FILE"):
        tower_of("ViT-B-16", tmp_path)
