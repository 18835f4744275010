"""Every kind of image encoder trains a step and its tower goes into a LLaVA."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from scored_question import letter_scores
from transformers import SiglipVisionConfig, SiglipVisionModel

from mgll.manifest import Record, write_manifest
from mgll.preprocessing import Preprocessing, open_image
from mgll.pretraining import pretrain
from mgll.settings import PretrainSettings
from mgll.tower import load_tower, read_header
from mgll.vision_encoders import vision_encoder
from mllm_adapters.demo_host import build_demo_host, save_random_tower
from mllm_adapters.graft import validate
from mllm_adapters.llava import HOST
from mllm_adapters.loading import load
from mllm_adapters.transplant import graft

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20]}
#: encoder, its options, image size, pooling, tokens in a LLaVA
ENCODERS: dict[str, tuple[str, dict[str, Any], int, str, int]] = {
    "clip": ("vit-nano-16", {"hidden_act": "quick_gelu"}, 32, "cls", 4),
    "convnext": ("convnext-base", CONVNEXT, 64, "head", 4),
    "timm, no class token": ("timm:vit_base_patch16_siglip_224", VIT, 32, "mean", 16),
    "timm, batch norms": ("timm:resnet10t", {"channels": [4, 8, 12, 16]}, 64, "mean", 4),
    "open_clip": ("open_clip:tiny", {}, 32, "cls", 16),
    "transformers": ("hf:", {}, 32, "head", 16),
}


@pytest.fixture(scope="module")
def settings(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> PretrainSettings:
    folder = tmp_path_factory.mktemp("manifest")
    records = [
        Record(image=f"{i}.png", split="train", group=f"p{i}", texts={"disease": ["one", "two"][i % 2 :]})
        for i in range(6)
    ]
    for i, path in enumerate(photographs):
        Image.open(path).save(folder / f"{i}.png")
    write_manifest(folder / "manifest.jsonl", records)
    return PretrainSettings(str(folder / "manifest.jsonl"), feature_width=8, epochs=1, batch_size=6)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_step_of_training_and_a_graft(
    name: str, settings: PretrainSettings, host_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    encoder, options, size, pooling, tokens = ENCODERS[name]
    if name == "open_clip":
        vision = '{"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}'
        text = '{"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}'
        (tmp_path / "tiny.json").write_text(f'{{"embed_dim": 8, "vision_cfg": {vision}, "text_cfg": {text}}}')
        open_clip.add_model_config(tmp_path / "tiny.json")
    if name == "transformers":
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = SiglipVisionModel(SiglipVisionConfig(**shape, image_size=32, patch_size=8))
        model.save_pretrained(tmp_path / "siglip")
        encoder = f"hf:{tmp_path / 'siglip'}"
    chosen: Any = {"encoder": encoder, "encoder_options": options, "image_size": size, "pooling": pooling}
    path = pretrain(PretrainSettings(**{**vars(settings), **chosen, "out": str(tmp_path / "run")}))

    torch.manual_seed(settings.seed)
    start, trained = vision_encoder(encoder, size, **options).state_dict(), load_tower(path)[0].state_dict()
    assert start.keys() == trained.keys()
    used = [key for key in start if "attn_pool" not in key]  # where it pools by the mean
    unmoved = [key for key in used if torch.equal(start[key], trained[key])]
    assert len(unmoved) < len(used) / 4, unmoved  # branches that start at 0 keep some weights from moving at first
    record = graft(HOST, host_directory, path, tmp_path / "graft")
    assert validate(tmp_path / "graft") == record
    assert record.features == tokens
    assert record.loads_in == (
        "transformers" if name in ("clip", "open_clip", "transformers") else "mllm_adapters.load"
    )
    tower = load(tmp_path / "graft").model.model.vision_tower
    assert all(torch.equal(t, trained[key]) for key, t in getattr(tower, "donor", tower).state_dict().items())
    letter_scores(tmp_path / "graft", open_image(photographs[0]))


def test_the_random_tower_of_a_folder_has_none_of_its_weights(tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = SiglipVisionModel(SiglipVisionConfig(**shape, image_size=32, patch_size=8))
    model.save_pretrained(tmp_path / "siglip")
    save_random_tower(tmp_path / "random.ckpt", 0, f"hf:{tmp_path / 'siglip'}", Preprocessing(size=32), "head")
    random, own = load_tower(tmp_path / "random.ckpt")[0].state_dict(), model.state_dict()
    assert random.keys() == own.keys()
    assert not [key for key, tensor in random.items() if tensor.std() > 0 and torch.equal(tensor, own[key])]
    with pytest.raises(ValueError, match="built on a CLIP tower"):
        build_demo_host(tmp_path / "random.ckpt", tmp_path / "host")


def test_a_tower_goes_on_where_another_stopped(settings: PretrainSettings, tmp_path: Path) -> None:
    chosen: Any = {"encoder": "vit-nano-16", "image_size": 32}
    first = pretrain(PretrainSettings(**{**vars(settings), **chosen, "out": str(tmp_path / "first")}))
    chosen |= {"start_weights": str(first), "learning_rate": 0.0, "out": str(tmp_path / "second")}
    second = pretrain(PretrainSettings(**{**vars(settings), **chosen}))
    one, two = (load_tower(path)[0].state_dict() for path in (first, second))
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())
    assert len(read_header(second).origin["start_weights_sha256"]) == 64
