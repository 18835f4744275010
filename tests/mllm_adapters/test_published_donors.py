"""Published encoders, converted, go into a LLaVA and see the image: a ViT with a class token and a convolutional trunk."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from scored_question import letter_scores
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from mgll.images.preprocessing import open_image
from mgll.published.conversion import convert
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("llava")


def retfound(folder: Path) -> tuple[Path, nn.Module, dict[str, Any]]:
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 0}
    model = timm.create_model("vit_large_patch16_224", **shape)
    torch.save({"model": model.state_dict() | {"mask_token": torch.ones(2)}}, folder / "retfound.pth")
    return folder / "retfound.pth", model, {"size": 32}


def flair(folder: Path) -> tuple[Path, nn.Module, dict[str, Any]]:
    model = ResNet(Bottleneck, [1, 1, 1, 1])
    model.fc = nn.Identity()
    tensors = {f"vision_model.model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(tensors | {"logit_scale": torch.ones(())}, folder / "flair.pth")
    return folder / "flair.pth", model, {"size": 128}


@pytest.mark.slow
@pytest.mark.parametrize("publish", [retfound, flair])
def test_a_converted_tower_in_a_llava(
    publish: Any, host_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path, model, said = publish(tmp_path)
    convert(path, publish.__name__, tmp_path / "tower.ckpt", **said)
    record = graft_tower(HOST, host_directory, tmp_path / "tower.ckpt", tmp_path / "graft")
    assert validate(tmp_path / "graft") == record
    assert record.features == record.placeholders == 16
    tower = load(tmp_path / "graft").model.model.vision_tower
    tensors, expected = getattr(tower, "donor", tower).state_dict(), model.state_dict()
    assert {name.removeprefix("timm_model.") for name in tensors} == expected.keys()
    assert all(torch.equal(tensors[f"timm_model.{name}"], tensor) for name, tensor in expected.items())
    first, second = letter_scores(tmp_path / "graft", *map(open_image, photographs[:2]))
    assert first.log_probs != second.log_probs  # the image is seen
